"""The commands: one of each in a process of its own, as a user runs it, the others in this one."""

import base64
import importlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import transformer_lessons
from transformer_lessons.cli.main import COMMANDS
from transformer_lessons.cli.options import read_options
from transformer_lessons.data.pairs import write_pairs
from transformer_lessons.presets import preset
from transformer_lessons.training.checkpoint import load_checkpoint

COMMAND = [sys.executable, "-W", "error", "-m", "transformer_lessons"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        env={**ENVIRONMENT, **environment},
        timeout=120,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with pairs and a run trained on them, under a name that is hard on programs."""
    folder = tmp_path_factory.mktemp("a folder with ümlauts")
    write_pairs(folder / "pairs.tsv", [(b"ab", b"ababab")])
    done = run("train", "--pairs", "pairs.tsv", "--out", "my run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_training_on_pairs_writes_a_run_folder(trained):  # SPEC F7 F8
    folder, shown = trained
    log = [json.loads(line) for line in (folder / "my run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 401))
    assert log[0]["loss"] == pytest.approx(5.545, abs=0.01)
    assert log[-1]["loss"] < 0.01
    config = json.loads((folder / "my run" / "config.json").read_text())
    assert config["model"] == preset("fluctlight").to_dict()
    assert config["training"]["steps"] == 400
    assert load_checkpoint(folder / "my run").step == 400
    assert "2,656 parameters" in shown
    assert f"loss {log[-1]['loss']:.4f}" in shown  # SPEC F10


def test_generate_continues_a_prompt(trained):  # SPEC F8
    folder, _ = trained
    done = run("generate", "my run", "--prompt", "ab", "--max-new-tokens", "9", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "abababababa\n")


def test_generate_shows_probabilities(trained, run_here):  # SPEC F10
    folder, _ = trained
    options = ("--prompt", "ab", "--max-new-tokens", "3", "--temperature", "0", "--probabilities")
    lines = run_here("generate", "my run", *options, cwd=folder).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["'a'", "97"], ["'b'", "98"], ["'a'", "97"]]
    assert all(float(line.split()[-1].rstrip("%")) > 90 for line in lines)


def test_the_same_seed_writes_the_same_text(trained, run_here):
    folder, _ = trained
    options = ("generate", "my run", "--prompt", "q", "--temperature", "3", "--seed")
    texts = [run_here(*options, seed, cwd=folder).stdout for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_characters_stay_whole_in_a_plain_locale(trained):
    folder, _ = trained
    options = ("--prompt", "né€", "--max-new-tokens", "0")
    done = run("generate", "my run", *options, cwd=folder, LC_ALL="C", PYTHONUTF8="0")
    assert (done.returncode, done.stdout) == (0, "né€\n")


def test_inspect_counts_every_number(trained):
    folder, _ = trained
    shown = run("inspect", "my run", cwd=folder).stdout
    assert "2,656 parameters, after 400 steps" in shown
    assert "256 × 4" in shown


def test_training_on_a_text_is_judged_on_its_last_tenth(tmp_path, run_here):
    (tmp_path / "text.txt").write_bytes(b"ab" * 450 + b"cd" * 50)
    done = run_here("train", "--text", "text.txt", "--training.steps", "150", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {line.split("  ")[0].strip(): line for line in done.stdout.splitlines()}
    training = float(rows["training loss"].split()[2])
    held_out = float(rows["held-out loss"].split()[2])
    assert training < 0.7  # it has learned a and b
    assert held_out > 3  # but c and d were never shown to it


def test_python_documentation_can_be_trained_on(tmp_path, run_here):
    options = ("--corpus", "--preset", "bytes-1m", "--training.steps", "2", "--model.n-layers", "1")
    done = run_here("train", *options, "--training.batch-size", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "knowing only how often each token occurs" in done.stdout


def test_defaults_come_from_the_preset_and_options_override_them():
    options = read_options("train", ["--preset", "bytes-1m", "--corpus", "--model.n-layers", "2"])
    assert options.model.n_layers == 2
    assert options.model.d_model == preset("bytes-1m").d_model
    assert options.training.weight_decay == 0.1


def test_a_config_file_sets_model_and_training(tmp_path):
    file = tmp_path / "my.json"
    file.write_text('{"model": {"context_length": 2}, "training": {"steps": 7}}')
    options = read_options("train", [f"--config={file}", "--corpus"])
    assert (options.model.context_length, options.training.steps) == (2, 7)


def test_demo_learns_and_writes(tmp_path):  # SPEC F9
    done = run("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2,656 parameters" in done.stdout
    assert done.stdout.rstrip().endswith("ab" * 20 + "…")


PAIR = base64.b64encode(b"ab") + b"\t" + base64.b64encode(b"abab") + b"\n"
BAD_INPUT = {
    "two words in a pair file": (
        {"p.tsv": PAIR + b"YWI= YWI=\n"},
        ("train", "--pairs", "p.tsv"),
        "p.tsv, line 2",
    ),
    "not base64": ({"p.tsv": b"YWI=\t!!\n"}, ("train", "--pairs", "p.tsv"), "not base64"),
    "an empty pair file": ({"p.tsv": b""}, ("train", "--pairs", "p.tsv"), "no pairs"),
    "no pair file": ({}, ("train", "--pairs", "p.tsv"), "can't read"),
    "bad seed pairs": (
        {"p.tsv": PAIR, "s.tsv": b"?\n"},
        ("train", "--pairs", "p.tsv", "--seed-pairs", "s.tsv"),
        "s.tsv, line 1",
    ),
    "an empty text": ({"t.txt": b""}, ("train", "--text", "t.txt"), "empty (t.txt)"),
    "no source": ({}, ("train",), "one of --pairs FILE"),
    "two sources": ({"p.tsv": PAIR}, ("train", "--pairs", "p.tsv", "--corpus"), "one of --pairs"),
    "an unknown preset": ({}, ("train", "--preset", "gpt9", "--corpus"), "Known: fluctlight"),
    "an unknown key": (
        {"c.json": b'{"model": {"d_modle": 4}}'},
        ("train", "--config", "c.json", "--corpus"),
        "unknown key 'd_modle' (c.json)",
    ),
    "a config that is not JSON": (
        {"c.json": b"{"},
        ("train", "--config", "c.json", "--corpus"),
        "c.json, line 1",
    ),
    "no context": (
        {},
        ("train", "--corpus", "--model.context-length", "0"),
        "context_length = 0 is not an integer of at least 1",
    ),
    "an unknown device": ({}, ("train", "--corpus", "--device", "tpu"), "no device 'tpu'"),
    "no checkpoint": ({}, ("generate", "nowhere", "--prompt", "a"), "no checkpoint here"),
    "a temperature near 0": (
        {},
        ("generate", "x", "--prompt", "a", "--temperature", "1e-9"),
        "is not 0 (greedy), or at least 0.001",
    ),
    "no prompt": ({}, ("generate", "x"), "--prompt"),
    "an empty cycle": ({}, ("demo", "--text", ""), "--text is empty"),
    "an unknown command": ({}, ("sing",), "unknown command 'sing'"),
    "an unknown option": ({}, ("demo", "--volume", "11"), "--volume"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_ends_with_one_line_and_code_2(name, tmp_path, run_here):
    files, arguments, expected = BAD_INPUT[name]
    for file, contents in files.items():
        (tmp_path / file).write_bytes(contents)
    done = run_here(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()  # nothing is left behind


def test_a_run_folder_is_not_overwritten(trained, run_here):
    folder, _ = trained
    before = (folder / "my run" / "log.jsonl").read_bytes()
    done = run_here("train", "--pairs", "pairs.tsv", "--out", "my run", cwd=folder)
    assert done.returncode == 2
    assert "there is a run here already" in done.stderr
    assert (folder / "my run" / "log.jsonl").read_bytes() == before


def test_ctrl_c_saves_what_was_learned(trained):
    folder, _ = trained
    arguments = ("train", "--pairs", "pairs.tsv", "--out", "stopped", "--training.steps", "100000")
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE
    )
    log = folder / "stopped" / "log.jsonl"
    for _ in range(600):
        if log.exists() and log.stat().st_size > 5000:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Stopped after" in shown
    assert load_checkpoint(folder / "stopped").step == len(log.read_text().splitlines()) > 0


def test_a_closed_pipe_is_quiet(trained):
    folder, _ = trained
    line = f"{sys.executable} -m transformer_lessons generate 'my run' --prompt ab | head -c 1"
    done = subprocess.run(
        line, shell=True, cwd=folder, env=ENVIRONMENT, capture_output=True, timeout=60
    )
    assert done.stdout == b"a"
    assert done.stderr == b""


@pytest.mark.parametrize("arguments", [(), ("--help",), ("train", "--help"), ("demo", "-h")])
def test_help(arguments, tmp_path, run_here):
    done = run_here(*arguments, cwd=tmp_path)
    assert done.returncode == (0 if arguments else 2)
    assert "usage: python -m transformer_lessons" in done.stdout + done.stderr


def test_every_command_has_a_line_of_help_and_a_module(tmp_path):
    shown = run("--help", cwd=tmp_path).stdout
    for name in COMMANDS:
        assert f"\n  {name} " in shown
        assert callable(importlib.import_module(f"transformer_lessons.cli.{name}").run)


def test_the_version(tmp_path):
    done = run("--version", cwd=tmp_path)
    assert (done.stdout, done.returncode) == (f"{transformer_lessons.__version__}\n", 0)


WITHOUT_PYTORCH = """
import sys
from transformer_lessons.cli.main import main
for line in sys.argv[2:]:
    try:
        code = main(line.split())
    except SystemExit as error:  # how tyro ends
        code = error.code
    assert (code, "torch" in sys.modules) == (int(sys.argv[1]), False), line
"""
HELP = ["", *COMMANDS, "download fineweb", "tokenizer train", "tokenizer encode"]
REFUSED = [
    *("", "sing", "demo --volume 11", "demo --pause -1", "inspect", "export x --to pdf --out y"),
    *("evaluate", "evaluate x", "doctor --device", "prepare --data.test 2", "download fineweb x"),
    *("tokenizer train --n-workers 0", "train --model.d-model 5", "train --preset gpt9"),
    *("train --resume --out nowhere", "finetune --lora-rank -1", "finetune --training.keep 0"),
    *(
        "generate",
        "generate --prompt a --n-samples 0",
        "generate --prompt a --top-k x",
        "chat --seed -1",
    ),
]


@pytest.mark.parametrize(
    ("code", "lines"), [(0, ["--version", *(f"{name} --help" for name in HELP)]), (2, REFUSED)]
)
def test_help_and_refusals_do_not_wait_for_pytorch(code, lines, tmp_path):
    line = [sys.executable, "-c", WITHOUT_PYTORCH, str(code), *lines]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stdout.count("usage: ")) == (0, len(HELP) * (code == 0)), done
