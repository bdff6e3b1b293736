"""`torchrun … -m transformer_lessons train`: equal to one process, resumed by one, refused once."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from transformer_lessons.data.pairs import write_pairs
from transformer_lessons.training.checkpoint import load_checkpoint

TORCHRUN = (sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone")
OPTIONS = (
    *("--pairs", "pairs.tsv", "--device", "cpu", "--timeout", "60"),
    *("--training.steps", "9", "--training.save-every", "4", "--training.batch-size", "4"),
    *("--training.grad-accum-steps", "2", "--model.dropout", "0.0"),
)


@pytest.fixture
def folder(tmp_path):
    """Seven pairs, so that of two batches of up to four rows the second has three."""
    pairs = [(b"ab" * n, b"ba" * (7 - n)) for n in range(1, 7)]
    write_pairs(tmp_path / "pairs.tsv", [*pairs, (b"x", b"y")])
    return tmp_path


def together(folder, *arguments, n_ranks=2):
    line = [*TORCHRUN, "--nproc-per-node", str(n_ranks), "-m", "transformer_lessons", *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True)


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_model_in_shares_is_trained_as_one_process_would(folder, run_here):
    done = together(folder, "train", *OPTIONS, "--shard", "--out", "shares")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step     1/9") == 1  # rank 0 alone speaks
    assert done.stdout.count("Saved: ") == 1
    assert run_here("train", *OPTIONS, "--out", "alone", cwd=folder).returncode == 0
    assert losses(folder / "shares") == pytest.approx(losses(folder / "alone"), abs=2e-6)
    ours, alone = (load_checkpoint(folder / name) for name in ("shares", "alone"))
    assert ours.training["data"] == alone.training["data"]
    for name, tensor in alone.model.state_dict().items():
        torch.testing.assert_close(ours.model.state_dict()[name], tensor, rtol=0, atol=1e-5)
    shutil.rmtree(folder / "shares" / "step-00000009")
    done = run_here("train", "--resume", "--out", "shares", cwd=folder)  # one process goes on
    assert done.returncode == 0, done.stderr
    assert losses(folder / "shares") == pytest.approx(losses(folder / "alone"), abs=2e-6)


def test_what_does_not_fit_is_refused_once(folder):
    done = together(folder, "train", *OPTIONS, "--training.batch-size", "1", "--out", "refused")
    assert done.returncode != 0
    assert done.stderr.count("a batch of 1 rows for 2 processes") == 1
    assert "Start fewer processes, or raise batch_size" in done.stderr


def test_shares_need_several_processes(folder, run_here):
    done = run_here("train", *OPTIONS, "--shard", "--out", "refused", cwd=folder)
    assert done.returncode == 2
    assert "--shard needs several processes" in done.stderr
