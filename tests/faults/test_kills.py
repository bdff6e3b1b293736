"""Processes killed while they save: the newest checkpoint always loads, and none is lost."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.training.checkpoint import checkpoints, latest_checkpoint, load_checkpoint

# For each line it reads, a process that saves one checkpoint after another, and says so after each.
SAVERS = """
import os, sys, torch
from pathlib import Path
from transformer_lessons.config import ModelConfig
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.training.checkpoint import checkpoints, save_checkpoint
from transformer_lessons.cli.run_folder import remove_old

def save_on_and_on(folder):
    model = Decoder(ModelConfig(256, 16, d_model=64, n_layers=2, n_heads=1, d_ff=256))
    step = max(checkpoints(folder), default=0)
    while True:
        step += 1
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, step)
        state = {"step": step, "average": torch.full((300_000,), float(step))}
        save_checkpoint(folder, step, model, state)
        print(step, flush=True)
        remove_old(folder, keep=2, best_step=0)

torch.set_num_threads(1)
for _ in sys.stdin:
    process = os.fork()
    if process == 0:
        save_on_and_on(Path(sys.argv[1]))
    print("process", process, flush=True)
    os.waitpid(process, 0)
    print("killed", flush=True)
"""


def kill_while_saving(savers, share):
    """Let a new process save twice, and kill it in the third round, after a `share` of its time.

    The last step that it said it had saved comes back.
    """
    savers.stdin.write("\n")
    savers.stdin.flush()
    said, times = [], []
    while len(said) < 3:
        said.append(savers.stdout.readline())
        times.append(time.perf_counter())
    (process,) = (int(line.split()[1]) for line in said if line.startswith("process"))
    time.sleep((times[-1] - times[-2]) * share)
    os.kill(process, signal.SIGKILL)
    while said[-1] != "killed\n":
        said.append(savers.stdout.readline())
    return max(int(line) for line in said if line.strip().isdecimal())


def assert_whole(folder):
    """The newest checkpoint loads, and all in it is of one step, which is returned."""
    loaded = load_checkpoint(folder)
    numbers = [p.double() for p in loaded.model.state_dict().values()]
    numbers.append(loaded.training["average"].double())
    assert {value for tensor in numbers for value in tensor.unique().tolist()} == {loaded.step}
    assert loaded.training["step"] == loaded.step
    return loaded.step


def test_a_kill_at_any_moment_loses_nothing(tmp_path, tries):  # SPEC E9 G8
    """SIGKILL at random moments, each in a folder that the kills before have left as it is."""
    n_kills, dice = tries(10, 200), random.Random(0)
    n_interrupted = most = newest = acknowledged = 0
    line = [sys.executable, "-c", SAVERS, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(line, **pipes) as savers:
        for _ in range(n_kills):
            acknowledged = max(acknowledged, kill_while_saving(savers, dice.uniform(0.0, 1.2)))
            leftovers = list(tmp_path.glob(".*"))
            assert len(leftovers) <= 1
            n_interrupted += bool(leftovers)
            most = max(most, len(list(tmp_path.iterdir())))
            newest = assert_whole(tmp_path)
            assert newest >= acknowledged
        savers.stdin.close()
    print(f"{n_kills} kills, {n_interrupted} of them in the middle of a save, {newest} saved:")
    print(f"0 unreadable newest checkpoints, 0 acknowledged steps lost, at most {most} entries")
    assert n_interrupted
    assert most <= 4  # two that are kept, the one that is too many, and one unfinished


# The command itself

TEXT = "".join(f"def f{n}(x):\n    return x + {n}\n" for n in range(200))
OPTIONS = (
    *("--model.d-model", "32", "--model.dropout", "0.1", "--training.save-every", "3"),
    *("--training.batch-size", "2", "--training.grad-accum-steps", "2"),
    *("--training.eval-every", "20", "--device", "cpu"),
)


def command(*arguments):
    return [sys.executable, "-W", "error", "-m", "transformer_lessons", *map(str, arguments)]


def run(*arguments, cwd):
    done = subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def n_logged(folder):
    log = folder / "log.jsonl"
    return log.read_text().count("\n") if log.exists() else 0


def log_of(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def assert_same_run(ours, theirs):
    """Every logged loss, and all that the last checkpoint holds, to the last bit."""
    assert log_of(ours) == log_of(theirs)
    found = []
    for folder in (ours, theirs):
        newest = latest_checkpoint(folder)
        files = {path.name: path.read_bytes() for path in newest.iterdir()}
        about = json.loads(files.pop("checkpoint.json"))
        del about["sha256"]
        found.append((about, files))
    assert found[0] == found[1]


def stop_in_training(arguments, cwd, folder, number, n_steps):
    """Start the command, send it the signal after about `n_steps` more steps; its exit code."""
    begun = n_logged(folder)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command(*arguments), cwd=cwd, **pipes)
    while process.poll() is None and n_logged(folder) - begun < n_steps:
        time.sleep(0.002)
    process.send_signal(number)
    process.communicate()
    return process.returncode


# Each start takes seconds: outside of `make faults`, only the run on token files is stopped.
SOURCES = ["tokens", "text"] if os.environ.get("FAULTS") == "full" else ["tokens"]


@pytest.mark.parametrize("source", SOURCES)
def test_a_killed_training_goes_on_as_if_nothing_was(tmp_path, source, tries):  # SPEC A7 E9 G8
    """SIGKILL and SIGTERM in turn at random steps; then the run is the one that was let be."""
    (tmp_path / "t.txt").write_text(TEXT)
    n_stops, dice = tries(2, 20), random.Random(source)
    data = ("--text", "t.txt")
    if source == "tokens":
        ByteTokenizer().save(tmp_path / "b.json")
        run("tokenizer", "encode", "b.json", "t.txt", "--out", "t.npy", cwd=tmp_path)
        data = ("--text", "t.npy", "--held-out", "t.npy", "--tokenizer", "b.json")
        data = (*data, "--workers", "2")
    options = (*data, *OPTIONS, "--training.steps", 30 * (n_stops + 1))
    run("train", *options, "--out", "whole", cwd=tmp_path)
    parts = tmp_path / "parts"
    codes = []
    for index in range(n_stops):
        resume = ("--resume",) if checkpoints(parts) else options
        number = (signal.SIGKILL, signal.SIGTERM)[index % 2]
        arguments = ("train", *resume, "--out", "parts")
        codes.append(stop_in_training(arguments, tmp_path, parts, number, dice.randint(4, 25)))
        assert codes[-1] == (-9 if number == signal.SIGKILL else 143)
        before = n_logged(parts)
        loaded = load_checkpoint(parts)
        assert before - 3 <= loaded.step <= before  # what was logged and is not saved: 3 at most
        if number == signal.SIGTERM:
            assert loaded.step == before
    run("train", "--resume", "--out", "parts", cwd=tmp_path)
    assert_same_run(tmp_path / "whole", parts)
    names = [path.name for path in parts.iterdir() if not path.name.startswith("step-")]
    of_a_run = {"config.json", "log.jsonl", "tokenizer.json", ".lock", "loss.svg", "summary.json"}
    assert set(names) <= of_a_run
    assert len(checkpoints(parts)) <= 3
    print(f"{source}: stopped {n_stops} times, {len(log_of(parts))} steps, equal to the last bit")


def test_a_second_training_is_refused_until_the_first_is_killed(tmp_path):  # SPEC E9
    (tmp_path / "t.txt").write_text(TEXT)
    folder = tmp_path / "run"
    arguments = ("train", "--text", "t.txt", "--out", "run", "--training.save-every", "1")
    endless = command(*arguments, "--training.steps", 10**6)
    first = subprocess.Popen(endless, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        while first.poll() is None and not checkpoints(folder):
            time.sleep(0.01)
        line = command(*arguments, "--resume", "--training.steps", 10**6)
        second = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
        assert second.returncode == 2
        assert "another run is writing here (run)" in second.stderr
    finally:
        first.kill()
        first.wait()
    code = stop_in_training(("train", "--resume", "--out", "run"), tmp_path, folder, 15, 2)
    assert code == 143
    assert torch.isfinite(load_checkpoint(folder).model.head.weight).all()
