"""The commands of README and of the page "Every command" are run, so that they stay true."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from transformer_lessons.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv" / "bin" / "python"
OURS = ".venv/bin/python -m transformer_lessons "

QUICK = " --training.steps 1 --training.batch-size 1 --training.grad-accum-steps 1"
SET_UP = ("requirements.txt", "pyproject.toml")
# What is run as something else than it is written, and why.
SHORTER = {
    # Two minutes of training; a few steps run the same code.
    "train --preset bytes-1m --corpus": " --training.steps 3",
    # Hours; one batch of a few tokens.
    "train --preset gpt": QUICK,
    "train --preset llama": QUICK,
    "train --preset python-small": QUICK + " --training.no-compile",
}
# What can't be run from inside the tests: they would start themselves.
RUN_BY_MAKE = ("make book", "make test")


def readme_commands() -> list[str]:
    paths = (ROOT / "README.md", ROOT / "book" / "commands.md")
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    text = re.sub(r" \\\n +", " ", text)  # a long command goes on in the next line
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the commands run: a folder of its own, with the repository's Makefile and package."""
    if not PYTHON.exists():
        pytest.fail("there is no .venv; run `make install`")
    for name in (".venv", "Makefile", "README.md", "transformer_lessons", *SET_UP):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_in_shell(command: str) -> str:
    """What a command prints; it must succeed."""
    if command.startswith("make "):
        # .venv belongs to the repository: here it must not be made again.
        command = f"{command} --old-file=.venv/installed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_command_of_the_readme_runs(folder, capsys):
    """In order; the package's own commands in this process, to import torch only once."""
    commands = readme_commands()
    assert len(commands) >= 8
    outputs = {}
    for command in commands:
        if command in RUN_BY_MAKE:
            continue
        extra = next((more for part, more in SHORTER.items() if part in command), "")
        if command.startswith(OURS) and not set("|&;<>") & set(command):
            code = main(shlex.split((command + extra).removeprefix(OURS)))
            printed = capsys.readouterr()
            assert code == 0, f"{command}\n{printed.out}\n{printed.err}"
            outputs[command] = printed.out
        else:
            outputs[command] = run_in_shell(command)
    written = next(text for command, text in outputs.items() if "--prompt ab" in command)
    assert written.strip() == "ab" * 11  # SPEC F12: stable at temperature 0.2


def test_make_book_and_make_test_are_rules_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in RUN_BY_MAKE:
        assert command in readme_commands()
        assert re.search(rf"^{command.removeprefix('make ')}:", makefile, flags=re.MULTILINE)
    # CI runs the README's own test command.
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_pages_name_the_same_commands_as_the_readme():
    page = (ROOT / "book" / "how_to_read.md").read_text(encoding="utf-8")
    for command in (*RUN_BY_MAKE, "make demo"):
        assert command in page
        assert command in readme_commands()


def test_the_page_on_the_four_systems_shows_commands_of_the_readme():  # SPEC G18
    page = (ROOT / "book" / "four_systems.md").read_text(encoding="utf-8")
    shown = re.findall(r"^python -m transformer_lessons (.*)$", page, flags=re.MULTILINE)
    assert len(shown) == 4
    assert {f"{OURS}{command}" for command in shown} <= set(readme_commands())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for parameters in re.findall(r"^\| parameters \| (.*) \|$", page, flags=re.MULTILINE):
        assert f"| {parameters} |" in readme  # both were written from the same runs


PAGES = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_to_lessons_have_the_lessons_numbers(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\[[^\]\d]*(\d+)[^\]]*\]\([^)]*notebooks/(\d+)_", text)
    assert [link for link in links if int(link[0]) != int(link[1])] == []


def test_the_first_page_lists_each_lesson_once():
    text = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^- \[(\d+) · ", text, flags=re.MULTILINE)
    written = [int(path.name[:2]) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    assert [int(number) for number in rows] == written
    assert f"{COUNTS[len(written)]} lessons." in text


COUNTS = {26: "Twenty-six", 27: "Twenty-seven", 28: "Twenty-eight"}


def test_readme_is_one_screen():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 80


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_files_that_the_pages_name_exist(path):
    """By the name alone: a row of a table may name `room/a.py` and then `b.py` of that room."""
    named = re.findall(r"`(?:\w+/)*(\w+\.py)`", path.read_text(encoding="utf-8"))
    folders = (ROOT / "transformer_lessons", ROOT / "benchmarks")
    there = {file.name for folder in folders for file in folder.rglob("*.py")}
    assert sorted(set(named) - there) == []
