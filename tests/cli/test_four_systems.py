"""The four systems of the README, each by one command, in short form; and what a run leaves."""

import json
import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transformer_lessons.data.pairs import write_pairs
from transformer_lessons.presets import PRESETS
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.training.config import train_preset

SHORT = ("--training.steps", 2, "--training.batch-size", 1, "--training.grad-accum-steps", 1)
TEXTS = [f"Page {i} of the book. " + "so it goes " * (i % 7) for i in range(400)]
NARROW = ("--model.d-model", 576, "--model.n-layers", 1, "--model.d-ff", 8)


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "a.parquet", row_group_size=20)
    write_pairs(tmp_path / "pairs.tsv", [(b"ab", b"ababab")])
    return tmp_path


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_trained_by_name(folder, run_here, name):  # SPEC G17 G18
    sizes = (*NARROW, "--model.vocab-size", 300, "--training.sequence-length", 8)
    options = ("--text", "a.txt", *SHORT, *sizes, "--training.no-compile", "--out", "run")
    done = run_here("train", "--preset", name, *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["training"]["learning_rate"] == train_preset(name).learning_rate
    assert config["model"]["position"] == PRESETS[name].position
    assert log_of(folder / "run")[0]["n_targets"] == 8


def test_a_gpt_writes_after_one_command(folder, run_here):  # SPEC E1 G18
    options = ("--preset", "gpt", "--text", "a.txt", *SHORT, "--model.n-layers", 1)
    done = run_here("train", *options, "--out", "gpt", cwd=folder)
    if "can't fetch" in done.stderr and not os.environ.get("CI"):
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(folder / "gpt").model.config.vocab_size == 100_277
    assert log_of(folder / "gpt")[0]["n_targets"] == 128
    told = run_here("generate", "gpt", "--prompt", "so", "--max-new-tokens", 2, cwd=folder)
    assert (told.returncode, told.stderr) == (0, "")
    told = run_here("generate", "gpt", "--prompt", "so " * 130, "--max-new-tokens", 1, cwd=folder)
    assert "note: trained on 128 tokens at a time; positions beyond were never" in told.stderr


def test_the_careful_pipeline(folder, run_here):  # SPEC S1 A8 G18
    (folder / "texts").mkdir()
    for number in range(30):
        facts = ", ".join(f"{number}{n} is {number * n}" for n in range(60))
        (folder / "texts" / f"{number}.txt").write_text(facts)
    done = run_here("prepare", "texts", "--out", "data", "--data.validation", 0.3, cwd=folder)
    assert done.returncode == 0, done.stderr
    files = ("--text", "data/train.jsonl", "--held-out", "data/validation.jsonl")
    sizes = (*SHORT, "--training.no-compile", "--training.eval-every", 1)
    options = ("--preset", "python-small", *files, *sizes, "--out", "run")
    done = run_here("train", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "bits per byte" in done.stdout


def test_a_run_shows_and_logs_what_it_writes_and_how_good_it_is(folder, run_here):  # SPEC A6 F10
    options = ("--text", "a.txt", *SHORT, "--training.eval-every", 1, "--out", "run")
    done = run_here("train", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    for line in log_of(folder / "run"):
        assert line["bits_per_byte"] == pytest.approx(line["validation"] / 0.6931472)
        assert line["perplexity"] == pytest.approx(2.7182818 ** line["validation"])
        assert " -> " in line["sample"]
    assert f"perplexity {line['perplexity']:,.1f}, {line['bits_per_byte']:.3f} bits" in done.stdout
    picture = (folder / "run" / "loss.svg").read_text()
    assert picture.startswith("<?xml")
    assert picture.rstrip().endswith("</svg>")
    assert "#2563a8" in picture  # the blue of the book's figures
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["parameters"] == "2,656"
    assert "MB at its peak" in summary["memory"]


def test_a_stream_that_was_killed_goes_on_to_the_exact_token(folder, run_here):  # SPEC E8 G8
    code = "import sys\nfrom transformer_lessons.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    given = ("--from-parquet", "a.parquet", "--tokenizer", "bytes", "--training.steps", 400)
    options = (*given, "--training.save-every", 5, "--device", "cpu")
    line = [sys.executable, "-c", code, "train", *map(str, options), "--out", "killed"]
    environment = {**os.environ, "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    log = folder / "killed" / "log.jsonl"
    with subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
        for _ in range(6000):
            if log.exists() and log.stat().st_size > 5000:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    n_before = len(log.read_text().splitlines())
    assert 10 < n_before < 400
    for arguments in (("--resume", "--out", "killed"), (*options, "--out", "whole")):
        done = run_here("train", *arguments, cwd=folder)
        assert done.returncode == 0, done.stderr
    losses = [[line["loss"] for line in log_of(folder / run)] for run in ("killed", "whole")]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 400


def test_without_a_network_fineweb_names_what_to_do(folder, run_here, monkeypatch):  # SPEC E8 S9
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")  # read when `datasets` is imported: here, or
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)  # earlier by another test
    done = run_here("train", "--fineweb", "--tokenizer", "bytes", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "name files that are here: --from-parquet FILE" in done.stderr
