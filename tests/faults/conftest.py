"""Faults that are caused, not imitated: kills, full disks, damaged files.

Some are a matter of luck, so they are tried often. `make faults` tries them far more often than the
suite does, and prints what it saw: it sets FAULTS=full.
"""

import os
import shutil
import subprocess
from contextlib import chdir

import pytest

from transformer_lessons.cli.main import main


@pytest.fixture
def tries():
    """Chooses between a few tries, in the suite, and many, in `make faults`."""
    return lambda few, many: many if os.environ.get("FAULTS") == "full" else few


@pytest.fixture
def mounted(tmp_path):
    """Makes a file system of its own in memory, as `mount` is told to by `options`."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount the small file system that this test fills")
    folders = []

    def make(options):
        folder = tmp_path / f"mounted-{len(folders)}"
        folder.mkdir()
        line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"can't mount a small file system here: {done.stderr.strip()}")
        folders.append(folder)
        return folder

    yield make
    for folder in folders:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def run_here():
    """Runs a command in this process, in the folder `cwd`; its exit code."""

    def run(*arguments, cwd):
        with chdir(cwd):
            return main(list(arguments))

    return run
