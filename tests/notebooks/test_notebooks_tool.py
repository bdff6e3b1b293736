"""Executing notebooks: the same bytes each time, all or nothing, in place.

# SPEC G2
"""

import json
import os

from execute import execute_apart, normalise
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from notebook_files import read_notebook
from run_notebooks import main


def test_executing_twice_gives_the_same_bytes(  # SPEC G2
    tmp_path, write_notebook, capsys, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    source = "import os, sys\nfor i in range(3):\n    print(i, flush=True)\nos.environ['{}']"
    cells = [
        new_markdown_cell("# Text"),
        source.format("OMP_NUM_THREADS"),
        "open('here.txt').read()",
    ]
    path = write_notebook(tmp_path / "notebooks" / "01_small.ipynb", cells)
    (path.parent / "here.txt").write_text("found")
    (tmp_path / "transformer_lessons").mkdir()

    assert main([], tmp_path) == 0
    first = path.read_bytes()
    assert main([str(path)], tmp_path) == 0
    assert path.read_bytes() == first
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[-1]) for line in lines] == [
        ("01_small.ipynb", "written"),
        ("01_small.ipynb", "unchanged"),
    ]

    _, printed, read = read_notebook(path).cells
    assert [output.get("text") for output in printed.outputs] == ["0\n1\n2\n", None]
    assert printed.outputs[1].data["text/plain"] == "'1'"  # one thread
    assert read.outputs[0].data["text/plain"] == "'found'"  # in the notebook's folder
    assert [printed.execution_count, read.execution_count] == [1, 2]
    assert json.loads(first)["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    assert sorted(os.listdir(path.parent)) == ["01_small.ipynb", "here.txt"]


def test_a_failing_notebook_stays_as_it_was(tmp_path, write_notebook, capsys):
    path = write_notebook(tmp_path / "notebooks" / "01_small.ipynb", ["x = 1", "x / 0"])
    (tmp_path / "transformer_lessons").mkdir()
    before = path.read_bytes()
    assert main([], tmp_path) == 1
    assert path.read_bytes() == before
    out = capsys.readouterr().out
    assert "01_small.ipynb: FAILED" in out
    assert "ZeroDivisionError" in out


def test_cost_and_environment_are_those_of_the_kernel(tmp_path, write_notebook):  # SPEC G12
    code = "import os\nassert os.environ['LESSON'] == '7'\nx = b'1' * 400_000_000"
    path = write_notebook(tmp_path / "a.ipynb", [code])
    cost = execute_apart(path, path, {"LESSON": "7"})
    assert 400e6 < cost.peak_bytes < 600e6
    assert cost.cpu_seconds > 0


def test_cells_without_an_id_get_the_same_one_each_time(tmp_path, write_notebook):
    path = write_notebook(tmp_path / "a.ipynb", ["x = 1", "x = 1", "y = 2"])
    ids = []
    for _ in range(2):
        notebook = read_notebook(path)
        for cell in notebook.cells[1:]:
            del cell["id"]
        ids.append([cell.id for cell in normalise(notebook).cells])
    assert ids[0] == ids[1]
    assert ids[0][0] == "cell-1"  # an id stays
    assert len(set(ids[0])) == 3


def test_timing_and_widget_metadata_are_taken_out(tmp_path, write_notebook):
    cell = new_code_cell("x = 1", metadata={"execution": {"shell": "now"}, "tags": ["kept"]})
    notebook = read_notebook(write_notebook(tmp_path / "a.ipynb", [cell]))
    notebook.metadata["widgets"] = {}
    notebook = normalise(notebook)
    assert notebook.cells[0].metadata == {"tags": ["kept"]}
    assert "widgets" not in notebook.metadata


def test_printed_text_is_joined_where_it_follows_on(tmp_path, write_notebook):
    cell = new_code_cell("x = 1", execution_count=1)
    streams = (("stdout", "a"), ("stdout", "b\n"), ("stderr", "c"), ("stdout", "d"))
    cell.outputs = [new_output("stream", name=name, text=text) for name, text in streams]
    cell.outputs.insert(3, new_output("display_data", {"text/plain": "<Figure>"}))
    notebook = normalise(read_notebook(write_notebook(tmp_path / "a.ipynb", [cell])))
    shown = [output.get("text", output.output_type) for output in notebook.cells[0].outputs]
    assert shown == ["ab\n", "c", "display_data", "d"]
