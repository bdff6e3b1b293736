"""The command `prepare`, run as a user runs it: in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

COMMAND = [sys.executable, "-W", "error", "-m", "transformer_lessons", "prepare"]
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


@pytest.fixture
def data(tmp_path):
    """Two texts that are fine and one that is not, in a folder that is hard on programs."""
    folder = tmp_path / "my [b] dätä"
    folder.mkdir()
    for name, numbers in (("a.txt", range(100)), ("b.txt", range(1000, 1100))):
        (folder / name).write_text(", ".join(str(n**3) for n in numbers) + "\r\n")
    (folder / "c.txt").write_bytes(b"\xff")
    return folder


def test_a_folder_becomes_splits_and_a_summary(data, tmp_path):  # SPEC S1
    done = run(data.name, "--out", "my data", "--data.validation", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "my data"
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["config"]["validation"] == 0
    assert manifest["counts"]["found"] == 3
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    found = {" ".join(line.split()[:-1]): line.split()[-1] for line in lines}
    assert found["found"] == "3"
    assert found["dropped: not UTF-8"] == "1"
    assert found["changed by normalize_line_ends"] == "2"
    assert str((out / "train.jsonl").stat().st_size) in done.stdout.replace(",", "")
    assert "dropped.jsonl" in lines[-1]


def test_the_embedded_documentation_needs_no_files(tmp_path):
    done = run("--corpus", "documentation", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "runs" / "data" / "train.jsonl").read_text(encoding="utf-8")
    assert json.loads(text.split("\n")[0])["source"].startswith("python topic a")


def test_steps_and_limits_are_options(data, tmp_path):
    options = ("--data.cleaning", "drop_null_bytes", "--data.quality.min-characters")
    done = run(data.name, "--out", "out", *options, "100", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "normalize_line_ends" not in done.stdout
    done = run(data.name, "--out", "other", *options, "10000", cwd=tmp_path)
    assert done.returncode == 2
    assert "none was kept. Dropped: not UTF-8: 1, too short: 2." in done.stderr


def test_a_config_file_gives_the_defaults(data, tmp_path):
    (tmp_path / "c.json").write_text('{"cleaning": ["normalize_line_ends"], "seed": 4, "test": 0}')
    done = run(data.name, "--out", "out", "--config", "c.json", "--data.seed", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "out" / "manifest.json").read_text())["config"]
    assert (config["cleaning"], config["seed"], config["test"]) == (["normalize_line_ends"], 5, 0)


def test_an_interrupted_run_goes_on(data, tmp_path):  # SPEC S1
    """Stopped as Ctrl-C stops it, once its second checkpoint is there."""
    lines = (f'{{"text": "{" ".join(str(n**k) for k in range(40))}"}}\n' for n in range(2, 9000))
    (data / "d.jsonl").write_text("".join(lines))
    command = [*COMMAND, data.name, "--out", "out", "--resume"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Whoever runs the tests in the background has Ctrl-C ignored, also by their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(6000):
        if list(tmp_path.glob("out/.unfinished-*/checkpoint.json")):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors
    assert not (tmp_path / "out" / "manifest.json").exists()
    refused = run(data.name, "--out", "out", "--resume", "--data.seed", "1", cwd=tmp_path)
    assert refused.returncode == 2
    assert "seed = 1, but it was 0 when the run was interrupted (DataConfig.seed)" in refused.stderr
    done = run(data.name, "--out", "out", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Going on after ")
    run(data.name, "--out", "whole", cwd=tmp_path)
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {path.name for path in (tmp_path / "out").iterdir()}
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "give files or folders to read, or --corpus"),
        (("nowhere",), "no such file or folder (nowhere)"),
        (("--corpus", "poems"), "no corpus 'poems' (--corpus)"),
        (("my [b] dätä", "--out", "my [b] dätä/out"), "the output folder is in an input folder"),
        (("my [b] dätä", "--out", "full"), "the folder is not empty"),
        (("my [b] dätä/c.txt", "--out", "x"), "of 1 documents and files none was kept"),
        (("my [b] dätä", "--data.similarity", "0.1"), "similarity = 0.1 is not from 0.7 to 1"),
        (("my [b] dätä", "--data.cleaning", "x"), "'x' is not a cleaning step"),
        (("my [b] dätä", "--config", "bad.json"), "unknown key 'clean' (bad.json)"),
        (("my [b] dätä", "--config", "none.json"), "can't read it"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(data, tmp_path, arguments, expected):  # SPEC S9
    (tmp_path / "bad.json").write_text('{"clean": []}')
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["x"]


def test_a_plain_terminal_and_a_strange_locale(data, tmp_path):
    done = run(data.name, "--out", "out", cwd=tmp_path, LC_ALL="C", PYTHONUTF8="0", TERM="dumb")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
