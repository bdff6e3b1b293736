"""The commands where it hurts: odd input that once ended in a traceback, and closed pipes."""

import json
import os
import shlex
import subprocess
import sys

import pytest
import torch

from transformer_lessons.cli.options import read_options
from transformer_lessons.config import ModelConfig
from transformer_lessons.data.pairs import write_pairs
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.training.checkpoint import load_checkpoint, save_checkpoint

COMMAND = [sys.executable, "-W", "error", "-m", "transformer_lessons"]
# Buffered, as on most machines: an unbuffered stdout hides what goes wrong when Python ends.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
ENVIRONMENT = {**BUFFERED, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def run_into_closed_pipe(arguments, cwd):
    """The exit code and stderr of a command whose output nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=cwd,
            env=ENVIRONMENT,
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=120,
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr.decode()


@pytest.fixture
def folder(tmp_path):
    """A folder with pairs, a text of 110 bytes, and three checkpoints made without training."""
    write_pairs(tmp_path / "p.tsv", [(b"ab", b"ababab")])
    (tmp_path / "short.txt").write_bytes(b"ab" * 55)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "model", 1, Decoder(preset("fluctlight")))
    save_checkpoint(tmp_path / "wide", 1, Decoder(ModelConfig(300, 16, 4, 2, 2, 8)))
    broken = Decoder(preset("fluctlight"))
    torch.nn.init.constant_(broken.head.bias, float("nan"))
    save_checkpoint(tmp_path / "nan", 1, broken)
    for name in ("model", "wide", "nan"):
        ByteTokenizer().save(tmp_path / name / "tokenizer.json")
    return tmp_path


HUGE = str(2**70)
PAIRS = ("train", "--pairs", "p.tsv")
BAD_INPUT = {
    "a file as run folder": ((*PAIRS, "--out", "p.tsv"), None, "can't make a run folder"),
    "a model that is a number": ((*PAIRS, "--config", "c.json"), {"model": 5}, '"model" is not'),
    "a model that is null": ((*PAIRS, "--config", "c.json"), {"model": None}, '"model" is not'),
    "training as a list": ((*PAIRS, "--config", "c.json"), {"training": [1]}, '"training" is not'),
    "too few tokens": ((*PAIRS, "--model.vocab-size", "50"), None, "tokens are bytes"),
    "too many tokens": ((*PAIRS, "--model.vocab-size", "300"), None, "tokens are bytes"),
    "a short text": (
        ("train", "--preset", "bytes-1m", "--text", "short.txt"),
        None,
        "99 tokens, but 129 are needed",
    ),
    "seed pairs alone": (
        ("train", "--text", "short.txt", "--seed-pairs", "p.tsv"),
        None,
        "--seed-pairs",
    ),
    "a huge training seed": ((*PAIRS, "--training.seed", HUGE), None, "2**63 - 1"),
    "a huge demo seed": (("demo", "--seed", HUGE), None, "2**63 - 1"),
    "a huge generation seed": (
        ("generate", "model", "--prompt", "a", "--seed", HUGE),
        None,
        "2**63 - 1",
    ),
    "a negative seed": (("generate", "model", "--prompt", "a", "--seed", "-5"), None, "seed = -5"),
    "a negative pause": (("demo", "--pause", "-1"), None, "pause = -1.0"),
    "a checkpoint of other tokens": (
        ("generate", "wide", "--prompt", "a"),
        None,
        "vocab_size = 300, but the tokens are bytes (wide)",
    ),
    "a checkpoint that is not a number": (
        ("generate", "nan", "--prompt", "a"),
        None,
        "not all finite",
    ),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_ends_with_one_line_and_code_2(name, folder, run_here):
    arguments, config, expected = BAD_INPUT[name]
    if config is not None:
        (folder / "c.json").write_text(json.dumps(config))
    done = run_here(*arguments, cwd=folder)
    assert "Traceback" not in done.stderr
    assert (done.returncode, expected in done.stderr) == (2, True), done.stderr
    assert done.stderr.count("\n") == 1  # in no frame, also where an option is nested
    assert not (folder / "runs" / "latest").exists()  # no run is left behind


def test_a_run_that_diverges_is_explained(folder, run_here):
    done = run_here(*PAIRS, "--training.learning-rate", "1e30", cwd=folder)
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("text", ["[b]", "[/b]", ":cat:", os.fsdecode(b"\xff")])
def test_the_demo_repeats_any_text(text, folder, run_here):  # SPEC F9
    done = run_here("demo", "--text", text, "--steps", "2", cwd=folder)
    assert done.returncode == 0, done.stderr
    shown = text if text.isprintable() else "·"
    assert f'meets "{shown}…"' in done.stdout
    assert f'After "{shown}"' in done.stdout


def test_file_names_are_not_markup(folder, run_here):
    (folder / "[b]:cat:.tsv").write_bytes((folder / "p.tsv").read_bytes())
    done = run_here("train", "--pairs", "[b]:cat:.tsv", "--training.steps", "1", cwd=folder)
    assert "reading [b]:cat:.tsv" in done.stdout


def test_the_command_shown_at_the_end_can_be_run(folder, run_here):  # SPEC F8
    done = run_here(*PAIRS, "--out", "it's a run", "--training.steps", "3", cwd=folder)
    saved = os.path.join("it's a run", "step-00000003")
    assert f"Saved: {saved}" in done.stdout
    line = done.stdout.splitlines()[-1].removeprefix("Let it write: python ")
    done = run_here(*shlex.split(line)[2:], "--max-new-tokens", "0", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "ab\n")


def test_the_last_of_two_presets_counts_as_for_every_option():
    options = read_options("train", ["--preset", "fluctlight", "--preset=bytes-1m", "--corpus"])
    assert (options.preset, options.model) == ("bytes-1m", preset("bytes-1m"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("train", "--help"),
        ("inspect", "model"),
        ("generate", "model", "--prompt", "a"),
    ],
)
def test_a_closed_pipe_is_quiet(arguments, folder):
    assert run_into_closed_pipe(arguments, folder) == (141, "")


def test_training_whose_reader_leaves_keeps_what_was_learned(folder):
    """As in `train … | head -n 1`."""
    line = [*COMMAND, *PAIRS, "--out", "run", "--training.steps", "5000"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, cwd=folder, env=ENVIRONMENT, **pipes) as process:
        assert b"2,656 parameters" in process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert (process.wait(timeout=120), errors) == (141, b"")
    log = (folder / "run" / "log.jsonl").read_text().splitlines()
    assert 1 <= load_checkpoint(folder / "run").step == len(log) < 5000
