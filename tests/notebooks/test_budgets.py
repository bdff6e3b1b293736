"""Every lesson states what it takes, and keeps to it.

# SPEC G12

Tests assert no timings, with this one exception: the budget of a lesson, which SPEC G12 promises
to readers. It is held in processor time, not by the clock; see `budget.check_cost`.
"""

import http.server
import os
import shutil
import subprocess
import sys
import threading
import urllib.request

import pytest
from budget import Budget, check_budget, check_cost, read_budget
from execute import OFFLINE, Cost, ExecutionFailed, execute_apart
from nbformat.v4 import new_markdown_cell
from notebook_files import ROOT, notebook_paths, read_notebook

NOTEBOOKS = notebook_paths(ROOT)


def test_there_are_notebooks():  # SPEC G12
    assert NOTEBOOKS, "notebooks/ is empty"


# --- the line --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "budget"),
    [
        (
            "**Budget:** about 20 s · under 1 GB of memory · no download",
            Budget(seconds=20, memory_bytes=1e9, download_bytes=0),
        ),
        (
            "**Budget:** about 45 s · under 1.5 GB of memory · 98 MB download",
            Budget(seconds=45, memory_bytes=1.5e9, download_bytes=98e6),
        ),
    ],
)
def test_budget_line_is_read(lesson, line, budget):
    notebook = read_notebook(lesson)
    notebook.cells[0].source = f"# Title\n\nWhat you need: nothing.\n{line}\n\n## The problem"
    assert read_budget(notebook) == budget
    assert list(check_budget(notebook)) == []


@pytest.mark.parametrize(
    "text",
    [
        "# Title",
        "**Budget:** about 20 s",
        "**Budget:** a moment · under 1 GB of memory · no download",
        "Budget: about 20 s · under 1 GB of memory · no download",
        "**Budget:** about 20 s · under 1 TB of memory · no download",
    ],
)
def test_budget_line_missing_or_in_another_form(lesson, text):  # SPEC G12
    notebook = read_notebook(lesson)
    notebook.cells[0].source = text
    assert [str(problem) for problem in check_budget(notebook)] == [
        "cell 1: no budget line. Write it in this form: "
        "**Budget:** about 20 s · under 1 GB of memory · no download"
    ]


def test_budget_line_must_be_in_the_first_cell(lesson):
    notebook = read_notebook(lesson)
    notebook.cells.insert(0, new_markdown_cell("# Title"))
    assert read_budget(notebook) is None
    notebook.cells[:] = notebook.cells[2:]  # the first cell is code
    assert read_budget(notebook) is None
    notebook.cells.clear()
    assert read_budget(notebook) is None


def test_stated_time_is_at_most_a_minute(lesson):  # SPEC G12
    notebook = read_notebook(lesson)
    for seconds, n_problems in ((60, 0), (61, 1)):
        line = f"**Budget:** about {seconds} s · under 1 GB of memory · no download"
        notebook.cells[0].source = line
        assert len(list(check_budget(notebook))) == n_problems


# --- keeping to it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (Cost(seconds=600, cpu_seconds=40, peak_bytes=10**9), ""),
        (Cost(seconds=50, cpu_seconds=41, peak_bytes=10**8), "it took 41 s of processor time"),
        (Cost(seconds=20, cpu_seconds=20, peak_bytes=1001 * 10**6), "it held 1001 MB of memory"),
    ],
)
def test_cost_over_the_budget(cost, said):  # SPEC G12
    budget = Budget(seconds=20, memory_bytes=1e9, download_bytes=0)
    problems = [problem.what for problem in check_cost(budget, cost)]
    assert len(problems) == bool(said)
    assert all(problem.startswith(said) for problem in problems)


def run_lesson(folder, write_notebook, line, code):
    """pytest's report on a lesson with this budget line and this code, run as `make test` does."""
    write_notebook(folder / "notebooks" / "a.ipynb", [new_markdown_cell(line), code])
    shutil.copy(ROOT / "notebooks" / "conftest.py", folder / "notebooks")
    command = [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider", "--nbval-lax"]
    command += ["--nbval-current-env", "-c", os.devnull, f"--rootdir={folder}", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools")}
    return subprocess.run(command, capture_output=True, text=True, env=environment).stdout


LINE = "**Budget:** about {seconds} s · under {memory} MB of memory · no download"


def test_a_notebook_that_takes_and_holds_more_than_it_says(tmp_path, write_notebook):  # SPEC G12
    code = "import time\nx = b'1' * 400_000_000\nwhile time.process_time() < 4: pass"
    said = run_lesson(tmp_path, write_notebook, LINE.format(seconds=1, memory=300), code)
    assert "s of processor time, and says 1 s" in said
    assert "it held " in said


def test_a_notebook_that_keeps_to_its_budget_without_a_network(tmp_path, write_notebook):
    # SPEC G9, G12
    code = "import os\nassert os.environ['https_proxy'] == 'http://127.0.0.1:9'"
    line = LINE.format(seconds=20, memory=900)
    said = run_lesson(tmp_path, write_notebook, line, code + "\nx = b'1' * 400_000_000")
    assert "2 passed" in said


def test_a_download_that_the_budget_does_not_state(tmp_path, write_notebook):  # SPEC G12
    handler = http.server.SimpleHTTPRequestHandler
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        path = write_notebook(
            tmp_path / "a.ipynb", [f"import urllib.request as r\nr.urlopen({url!r})"]
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as answer:
                assert answer.status == 200  # it can be fetched
            with pytest.raises(ExecutionFailed, match="URLError"):
                execute_apart(path, path, OFFLINE)
        finally:
            server.shutdown()
