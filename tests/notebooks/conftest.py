"""Small notebooks and repositories for the tests of the tools."""

from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_files import notebook_text

BUDGET = "# 1 · A lesson\n\n**Budget:** about 20 s · under 1 GB of memory · no download\n"
ALT = "A line that rises from the lower left corner to the upper right."


@pytest.fixture
def write_notebook():
    """write_notebook(path, cells): a notebook file; cells are nodes, or the source of code."""

    def write(path: Path, cells: list) -> Path:
        nodes = [new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        for number, node in enumerate(nodes, start=1):
            node.id = f"cell-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebook_text(new_notebook(cells=nodes)), encoding="utf-8")
        return path

    return write


@pytest.fixture
def lesson(tmp_path, write_notebook):
    """The path of a notebook as it should be, beside a `_toc.yml` that names it."""
    toc = "format: jb-book\nroot: index\nparts:\n- chapters:\n  - file: notebooks/01_small\n"
    (tmp_path / "_toc.yml").write_text(toc)
    picture = new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})
    value = new_output("execute_result", {"text/plain": "4"}, execution_count=1)
    error = new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=[])
    cells = [
        new_markdown_cell(BUDGET),
        new_code_cell("2 + 2", execution_count=1, outputs=[value]),
        new_code_cell(
            "plt.show()",
            execution_count=2,
            outputs=[picture],
            metadata={"mystnb": {"image": {"alt": ALT}}},
        ),
        new_markdown_cell(f"![{ALT}](line.png)"),
        new_code_cell(
            "1 / 0",
            execution_count=3,
            outputs=[error],
            metadata={"tags": ["raises-exception"]},
        ),
        new_markdown_cell("Add.", metadata={"tags": ["exercise"]}),
        new_code_cell("total = 1 + 2", execution_count=4, metadata={"tags": ["solution"]}),
    ]
    return write_notebook(tmp_path / "notebooks" / "01_small.ipynb", cells)
