"""A process of several is killed, frozen, or raises: the run ends, says who, and can go on."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from transformer_lessons.training.checkpoint import latest_checkpoint, load_checkpoint

TEXT = "".join(f"def f{n}(x):\n    return x + {n}\n" for n in range(200))
STEPS = 40
OPTIONS = (
    *("--text", "t.txt", "--tokenizer", "bytes", "--device", "cpu", "--timeout", "4"),
    *("--training.save-every", "4", "--training.batch-size", "6", "--model.dropout", "0.0"),
    *("--training.steps", str(STEPS)),
)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")
GRACE = 30  # seconds that torchrun leaves to a process that it has told to end
FAULTS = ["SIGKILL", "SIGSTOP", "exception"]
if os.environ.get("FAULTS") != "full":
    FAULTS = ["SIGSTOP"]  # the hardest: each costs the start of three processes
RAISER = """
import os, sys
from transformer_lessons.cli.main import main
from transformer_lessons.training.rank_trainer import RankTrainer

gradients = RankTrainer.gradients
def raising(trainer, batches):
    if trainer.rank == 1 and trainer.n_steps == 6:
        raise KeyError("a bug of rank 1")
    return gradients(trainer, batches)
RankTrainer.gradients = raising
sys.exit(main(sys.argv[1:]))
"""


def processes_of(parent):
    """The ranks that torchrun, process `parent`, has started: process numbers by rank."""
    with open(f"/proc/{parent}/task/{parent}/children") as file:
        children = file.read().split()
    found = {}
    for child in children:
        with open(f"/proc/{child}/environ", "rb") as file:
            if match := re.search(rb"(?:^|\0)RANK=(\d+)\0", file.read()):
                found[int(match[1])] = int(child)
    return found


def is_running(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("n_ranks", [2, 3] if os.environ.get("FAULTS") == "full" else [2])
def test_a_lost_process_ends_the_run_and_is_named(tmp_path, run_here, fault, n_ranks):
    (tmp_path / "t.txt").write_text(TEXT)
    (tmp_path / "raiser.py").write_text(RAISER)
    program = ["raiser.py"] if fault == "exception" else ["-m", "transformer_lessons"]
    many = ("--nproc-per-node", str(n_ranks))
    line = [*TORCHRUN, *many, *program, "train", *OPTIONS, "--out", "run"]
    with open(tmp_path / "said.txt", "w+") as said:
        torchrun = subprocess.Popen(line, cwd=tmp_path, stdout=said, stderr=subprocess.STDOUT)
        log = tmp_path / "run" / "log.jsonl"
        while torchrun.poll() is None and (not log.exists() or log.read_text().count("\n") < 6):
            time.sleep(0.01)
        assert torchrun.poll() is None or fault == "exception", (said.seek(0), said.read())
        processes = processes_of(torchrun.pid) if torchrun.poll() is None else {}
        if fault != "exception":
            os.kill(processes[1], getattr(signal, fault))
        if fault == "SIGSTOP" and os.environ.get("FAULTS") != "full":
            while torchrun.poll() is None and "SIGTERM" not in (tmp_path / "said.txt").read_text():
                time.sleep(0.1)
            os.kill(processes[1], signal.SIGKILL)  # as torchrun itself does after its grace
        # --timeout, the search for who is missing, and torchrun's grace; twice, for a busy machine
        code = torchrun.wait(timeout=2 * (4 + 10 + GRACE) + 60)
        said.seek(0)
        output = said.read()
    assert code != 0
    named = {"SIGSTOP": "rank 1 does not answer", "SIGKILL": r"Signal 9", "exception": "a bug of"}
    assert re.search(named[fault], output), output
    assert re.search(r"rank +: 1 |rank 1 ", output), output
    assert "LessonsError" not in output, output  # torchrun's own traceback is all there is
    assert not any(is_running(process) for process in processes.values())
    assert load_checkpoint(tmp_path / "run").step >= 4
    assert run_here("train", "--resume", "--out", "run", cwd=tmp_path) == 0  # one process goes on
    run_here("train", *OPTIONS, "--out", "whole", cwd=tmp_path)
    folders = [latest_checkpoint(tmp_path / name) for name in ("run", "whole")]
    assert [folder.name for folder in folders] == [f"step-{STEPS:08d}"] * 2
    ours, alone = (load_checkpoint(folder).model.state_dict() for folder in folders)
    for name, tensor in alone.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-5)
