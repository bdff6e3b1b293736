"""How a run of all tests goes about it: what shares a worker, what comes first, what is missing.

Each test runs pytest in a folder of its own, with the conftest.py of the project.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NO_TESTS = shutil.ignore_patterns("test_*", "__pycache__")


def run_tests(folder: Path, files: dict[str, str], n_workers: int, **environment: str):
    """pytest's run of `files`, without the plugins that take long to import."""
    shutil.copy(ROOT / "conftest.py", folder)
    shutil.copytree(ROOT / "tests" / "book", folder / "tests" / "book", ignore=NO_TESTS)
    for name, text in files.items():
        path = folder / "tests" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    options = f"-p xdist -n {n_workers} --import-mode=importlib tests"
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options.split()],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        capture_output=True,
        text=True,
    )


# Each test notes its worker, in a file for its page or its own file.
PAGES = """
import os, pytest
@pytest.mark.parametrize("kind", ["light", "dark"])
@pytest.mark.parametrize("name", ["book/one", "notebooks/02_two"])
def test_a_page(name, kind):
    with open(name.replace("/", "-"), "a") as notes:
        notes.write(os.environ["PYTEST_XDIST_WORKER"])
"""
FILE = """
import os, pytest
@pytest.mark.parametrize("n", range(6))
def test_one_of_many(n):
    with open(os.path.basename(__file__)[:-3], "a") as notes:
        notes.write(os.environ["PYTEST_XDIST_WORKER"])
"""


@pytest.mark.parametrize(
    ("files", "groups", "n_tests"),
    [
        ({"book/test_pages.py": PAGES}, ["book-one", "notebooks-02_two"], 2),
        ({"test_a.py": FILE, "test_b.py": FILE}, ["test_a", "test_b"], 6),
    ],
)
def test_pages_and_whole_files_are_what_workers_get(tmp_path, files, groups, n_tests):
    """Of two groups each worker starts with one, so where either ran doesn't depend on chance."""
    run = run_tests(tmp_path, files, n_workers=2)
    assert run.returncode == 0, run.stdout
    notes = sorted((tmp_path / group).read_text() for group in groups)
    assert notes == ["gw0" * n_tests, "gw1" * n_tests]


def test_the_dearest_come_first(tmp_path):
    files = {"test_a.py": FILE, "book/test_pages.py": PAGES, "cli/test_z.py": FILE}
    run = run_tests(tmp_path, files, 0, PYTEST_ADDOPTS="--collect-only -q")
    found = [line.partition("::")[0] for line in run.stdout.splitlines() if "::" in line]
    order = ["tests/cli/test_z.py", "tests/test_a.py", "tests/book/test_pages.py"]
    assert list(dict.fromkeys(found)) == order


NEEDY = """
import pytest
@pytest.mark.parametrize("n", range(3))
def test_a_page(page, n): page.goto("about:blank")
def test_a_browser(browser): browser.new_context()
"""


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_a_missing_chromium_is_named_at_the_end_and_fails_in_ci(tmp_path, ci, code):
    nowhere = str(tmp_path / "none")
    run = run_tests(tmp_path, {"book/test_needy.py": NEEDY}, 1, CI=ci, CHROMIUM=nowhere)
    assert run.returncode == code, run.stdout
    lack = f"CHROMIUM names {nowhere}, which is not a file: "
    lack += "install it (apt install chromium) or set CHROMIUM to its path"
    assert lack in run.stdout
    said = re.search(rf"^4 did not run: {re.escape(lack)}$", run.stdout, re.MULTILINE)
    assert bool(said) == (code == 0)
