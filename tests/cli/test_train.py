"""The train command: going on with a run, what it refuses, and the way from text to a model."""

import json
import os
import subprocess
import sys

import pytest

from transformer_lessons.data.pairs import write_pairs
from transformer_lessons.training.checkpoint import checkpoints, load_checkpoint

CODE = "".join(f"def f{n}(x):\n    return x + {n}\n" for n in range(120))


@pytest.fixture(scope="module")
def run(run_here):
    """What a command prints, or its error."""

    def run_and_check(*arguments, cwd, code=0):
        done = run_here(*arguments, cwd=cwd)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    return run_and_check


@pytest.fixture(scope="module")
def trained(tmp_path_factory, run):
    """A folder with pairs, a text, and a run that has ended after six steps."""
    folder = tmp_path_factory.mktemp("train")
    write_pairs(folder / "pairs.tsv", [(b"ab", b"ababab")])
    (folder / "code.txt").write_text(CODE)
    run("train", "--pairs", "pairs.tsv", "--out", "run", "--training.steps", 6, cwd=folder)
    return folder


REFUSED = {
    "more steps": (("--training.steps", "9"), "steps = 6 in the checkpoint, 9 here"),
    "a rate": (("--training.learning-rate", "0.1"), "learning_rate = 0.005 in the checkpoint"),
    "a model": (("--model.d-ff", "12"), "d_ff = 8 in the checkpoint, 12 here (ModelConfig.d_ff)"),
    "other data": (("--pairs", "other.tsv"), "the data is not what the run began with"),
    "two sources": (("--text", "code.txt"), "give one of --pairs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_choices_are_refused_by_name(trained, run, name):  # SPEC A7 G8
    write_pairs(trained / "other.tsv", [(b"xy", b"xyxy")])
    options, message = REFUSED[name]
    before = (trained / "run" / "log.jsonl").read_bytes()
    assert message in run("train", "--resume", "--out", "run", *options, cwd=trained, code=2)
    assert (trained / "run" / "log.jsonl").read_bytes() == before


def test_a_run_that_has_ended_has_nothing_to_go_on_with(trained, run):
    shown = run("train", "--resume", "--out", "run", "--training.keep", 5, cwd=trained)
    assert "Going on after step 6" in shown
    assert checkpoints(trained / "run") == {6: trained / "run" / "step-00000006"}


def test_without_a_checkpoint_there_is_nothing_to_resume(trained, run):
    for folder in ("nowhere", "."):
        error = run("train", "--resume", "--out", folder, cwd=trained, code=2)
        assert error.startswith("error: ")
    assert not (trained / "nowhere").exists()


@pytest.mark.parametrize(
    "config",
    [
        *("5", "[]", "{}", '{"data": 5}', '{"data": {"source": []}}', '{"data": {"source": 1}}'),
        *('{"data": {"source": {"corpus": "yes"}}}', '{"data": {"source": {"pairs": 3}}}'),
        *('{"data": {"source": {"where": "x"}}}', "[" * 10_000, "", '{"model": {"n_layers": 1e9}}'),
    ],
)
def test_a_changed_config_is_refused(trained, run, config):  # SPEC S9
    folder = trained / "run"
    before = (folder / "config.json").read_bytes()
    try:
        (folder / "config.json").write_text(config)
        error = run("train", "--resume", "--out", "run", cwd=trained, code=2)
        assert error.startswith("error: ")
    finally:
        (folder / "config.json").write_bytes(before)


def test_a_run_stops_early_and_keeps_the_best(trained, run):  # SPEC S5
    """The held-out tenth is of another kind: what is learned of the rest makes it worse."""
    (trained / "turns.txt").write_bytes(b"ab" * 450 + b"ba" * 5 + b"cd" * 45)
    options = ("--training.eval-every", 5, "--training.patience", 2, "--training.steps", 400)
    arguments = ("--text", "turns.txt", "--out", "early", *options)
    shown = run("train", *arguments, "--training.learning-rate", 0.03, cwd=trained)
    log = [json.loads(line) for line in (trained / "early" / "log.jsonl").read_text().splitlines()]
    found = {line["step"]: line["validation"] for line in log if line["validation"] is not None}
    assert list(found) == list(range(5, len(log) + 1, 5))
    best = min(found, key=found.get)
    assert len(log) == best + 10 < 400
    assert f"after step {best}" in shown
    assert "stopped early" in shown
    assert {best, len(log)} <= set(checkpoints(trained / "early"))


def test_an_evaluation_needs_held_out_text(trained, run):
    options = ("--pairs", "pairs.tsv", "--out", "no", "--training.eval-every", 2)
    assert "eval_every needs held-out text" in run("train", *options, cwd=trained, code=2)
    assert not (trained / "no").exists()


def test_from_text_to_a_model_that_writes(trained, run):  # SPEC A8
    """prepare, tokenizer train, encode, train, stop early, resume, generate."""
    (trained / "sources").mkdir()
    for n in range(40):
        body = "".join(f"def f{n}_{m}(x):\n    return x * {m} + {n * m}\n\n\n" for m in range(4, 9))
        (trained / "sources" / f"file{n}.py").write_text(f'"""Module {n}."""\n\n{body}')
    run("prepare", "sources", "--out", "data", cwd=trained)
    held_out = ("--held-out", "validation.npy")
    tokens = ("--text", "train.npy", *held_out, "--tokenizer", "t.json")

    def encode(vocab_size):
        sizes = ("--vocab-size", vocab_size, "--out", "t.json")
        run("tokenizer", "train", "data/train.jsonl", *sizes, cwd=trained)
        for split in ("train", "validation"):
            files = ("t.json", f"data/{split}.jsonl", "--out", f"{split}.npy")
            run("tokenizer", "encode", *files, cwd=trained)

    encode(280)
    options = (*tokens, "--model.vocab-size", 280, "--training.steps", 30, "--out", "bpe")
    shown = run("train", *options, "--training.eval-every", 10, "--workers", 2, cwd=trained)
    assert "bits per byte" in shown
    assert load_checkpoint(trained / "bpe").step == 30
    written = run("generate", "bpe", "--prompt", "def ", "--max-new-tokens", 5, cwd=trained)
    assert written.startswith("def ")
    error = run("train", *tokens, "--out", "small", cwd=trained, code=2)
    assert "vocab_size = 256, but the tokenizer has 280 tokens (--tokenizer t.json)" in error
    for name in ("t.json", "train.npy", "validation.npy"):
        (trained / name).unlink()
    encode(270)  # the same text under another tokenizer is other data
    error = run("train", "--resume", "--out", "bpe", cwd=trained, code=2)
    assert "the data is not what the run began with" in error


ELSEWHERE = """
import random, sys
import numpy
from transformer_lessons.cli.main import main
random.seed(int(sys.argv[1]))
numpy.random.seed(int(sys.argv[1]))
sys.exit(main(sys.argv[2:]))
"""


def test_the_seed_decides_alone(trained):  # SPEC A7
    """Neither the order of sets nor the generators of Python and NumPy change a run."""
    options = ("--text", "code.txt", "--model.dropout", 0.1, "--training.steps", 4)
    seen = []
    for other in ("1", "2"):
        out = ("--out", f"seed{other}", "--device", "cpu")
        line = [sys.executable, "-c", ELSEWHERE, other, "train", *map(str, options), *out]
        environment = {**os.environ, "PYTHONHASHSEED": other}
        subprocess.run(line, cwd=trained, env=environment, check=True, capture_output=True)
        lines = (trained / f"seed{other}" / "log.jsonl").read_text().splitlines()
        folder = checkpoints(trained / f"seed{other}")[4]
        about = json.loads((folder / "checkpoint.json").read_text())
        files = [(folder / f"{name}.safetensors").read_bytes() for name in ("model", "training")]
        losses = [json.loads(line)["loss"] for line in lines]
        seen.append((losses, about, files))
    assert seen[0] == seen[1]
