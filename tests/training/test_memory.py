"""Memory that is kept: nothing but the number of page faults changes, where the C library can."""

import subprocess
import sys

import pytest

COUNT = """
import resource
import sys
import torch
from transformer_lessons.training.memory import keep_memory

kept = sys.argv[1] == "kept" and keep_memory()
if sys.argv[1] == "kept" and not kept:
    sys.exit(77)
counts = []
for _ in range(40):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(2**24).fill_(1)  # 64 MB
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
# At first, small things come to lie between the large, and the next large one doesn't fit there.
print(sorted(counts[24:])[8])
"""


def page_faults(how):
    done = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this C library has no such setting")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_large_tensors_get_the_memory_of_those_before():
    assert page_faults("kept") < 100
    assert page_faults("as it is") > 1000
