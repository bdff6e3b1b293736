"""What the tests of the benchmarks share."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are not part of the package that is installed

from benchmarks import contest  # noqa: E402
from benchmarks.worker import Run, measure  # noqa: E402


class HereAndNow:
    """A contestant in this process: no import of torch and transformers for each of them."""

    def __init__(self, contestant):
        arguments = json.loads(json.dumps(contestant.arguments))
        module = import_module(contestant.module)
        self.work = getattr(module, contestant.function)(**arguments)

    def run(self):
        return Run(*json.loads(json.dumps(measure(self.work))))

    def run_and_watch(self):
        self.run()
        return 1.0

    def close(self):
        pass


@pytest.fixture
def in_this_process(monkeypatch):
    """Contests run in the process of the test; real processes have tests of their own."""
    monkeypatch.setattr(contest, "Process", HereAndNow)
