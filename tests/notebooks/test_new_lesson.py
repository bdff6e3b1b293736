"""A new lesson passes the checks of all lessons before anybody has written a word of it."""

import os
import shutil
import subprocess
import sys

import nbformat
import new_lesson
import pytest
import yaml
from listings import check_listings
from notebook_checks import check_notebook, toc_files
from notebook_files import ROOT, notebook_paths

NOT_COPIED = shutil.ignore_patterns("__pycache__", "python_small", "personas")


@pytest.fixture
def repository(tmp_path):
    """A copy of all that a new lesson is written into, and is checked with."""
    shutil.copytree(
        ROOT / "transformer_lessons", tmp_path / "transformer_lessons", ignore=NOT_COPIED
    )
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (tmp_path / "tests" / "exercises").mkdir(parents=True)
    for name in ("_toc.yml", "pyproject.toml", "tests/exercises/test_all_exercises.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def in_copy(repository, *command):
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=repository, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_new_lesson_passes_every_check(repository, monkeypatch):  # SPEC G14
    monkeypatch.setenv("PYTHONPATH", str(repository))
    number = int(notebook_paths(repository)[-1].name[:2]) + 1
    assert new_lesson.main(["a_new_one"], repository) == 0
    path = repository / "notebooks" / f"{number}_a_new_one.ipynb"
    assert [str(problem) for problem in check_notebook(path, repository / "_toc.yml")] == []
    assert [str(problem) for problem in check_listings(repository)] == []
    files = [f"tests/exercises/test_lesson_{number}.py", f"notebooks/{path.name}"]
    files += [f"transformer_lessons/exercises/lesson_{number}.py"]
    in_copy(repository, "ruff", "check", *files)
    in_copy(repository, "ruff", "format", "--check", *files)
    tests = ["--override-ini=addopts=--import-mode=importlib", "-p", "no:cacheprovider", "-q"]
    passed = in_copy(repository, "pytest", *tests, "tests", "-k", f"{number} or unique")
    assert "passed" in passed
    assert "failed" not in passed
    stored = nbformat.read(path, as_version=4)
    printed = "".join(o.get("text", "") for cell in stored.cells for o in cell.get("outputs", []))
    assert f"{number}.share: correct (3 cases)." in printed


def test_the_table_of_contents_has_it_after_the_last_one(repository):
    path = new_lesson.write_lesson("a_new_one", repository)
    toc = toc_files(yaml.safe_load((repository / "_toc.yml").read_text("utf-8")))
    last = notebook_paths(repository)[-2].stem
    assert toc[toc.index(f"notebooks/{last}") + 1] == f"notebooks/{path.stem}"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "one name, please"),
        (["two", "names"], "one name, please"),
        (["7_times"], "is no name of a lesson"),
        (["Rope"], "is no name of a lesson"),
        (["rope"], "there is a lesson called rope"),
    ],
)
def test_other_names_are_refused_and_nothing_is_written(names, said):
    before = notebook_paths(ROOT)
    with pytest.raises(SystemExit, match=said):
        new_lesson.main(names)
    assert notebook_paths(ROOT) == before
