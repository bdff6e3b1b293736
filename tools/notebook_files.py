"""Notebooks as files: where they are, and how they are read, written, and looked into.

Reading neither validates nor repairs: a check must see what is in the file.
"""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]


def notebook_paths(root: Path) -> list[Path]:
    """The notebooks of the book whose repository is at `root`, in reading order."""
    return sorted((root / "notebooks").glob("*.ipynb"))


def read_notebook(path: Path) -> NotebookNode:
    """The notebook in `path` (format 4); anything else raises `ValueError`, naming the file."""
    try:
        notebook = nbformat.v4.reads_json(path.read_text(encoding="utf-8"))
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not a notebook of format 4 ({error})") from None
    if notebook.get("nbformat") != 4:
        raise ValueError(f"{path}: not a notebook of format 4")
    return notebook


def notebook_text(notebook: NotebookNode) -> str:
    """The text of the file, laid out as Jupyter itself does."""
    return nbformat.v4.writes_json(notebook) + "\n"


def write_if_changed(path: Path, text: str) -> bool:
    """Make `text` the contents of `path` in one step; False when they already were."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    # An interrupted write must not leave half a notebook: write beside it, then rename.
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return True


def numbered_code_cells(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """The code cells, each with its number; text cells count too, and the first cell is 1."""
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "code":
            yield number, cell


def tags(cell: NotebookNode) -> list[str]:
    """The cell's tags."""
    return cell.metadata.get("tags", [])


def parse_cell(source: str) -> ast.Module:
    """The syntax tree of a code cell; a cell that is not Python gives an empty one.

    Nothing is lost by that: executing such a cell is an error, and stored errors are found.
    """
    try:
        return ast.parse(TransformerManager().transform_cell(source))  # knows %magic lines
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])
