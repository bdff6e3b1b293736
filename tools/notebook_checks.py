"""What every notebook of the book must be: executed, in order, clean, small, and accessible.

Each check takes a notebook and yields its problems; `check_notebook` runs them all. They look at
what is stored and execute nothing, so that a stale or stripped notebook is found in a moment.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from budget import check_budget
from nbformat import NotebookNode
from nbformat.validator import iter_validate
from notebook_files import notebook_text, numbered_code_cells, parse_cell, read_notebook, tags
from problems import Problem

MAX_CELL_OUTPUT = 300_000  # bytes of JSON
MAX_NOTEBOOK = 1_000_000
MIN_ALT = 30  # characters: fewer name a figure, and don't describe it
RUN = "Run: python tools/run_notebooks.py"
DESCRIBE = f"Describe what it shows in at least {MIN_ALT} characters"
# Calls that always show something. Of other calls, the text doesn't tell.
SHOWING = {"print", "display", "check", "hint", "plt.show"}
TITLE = re.compile(r"# (\d+) · \S")
MARKDOWN_IMAGE = re.compile(r"!\[([^\]]*)\]\(")
HTML_IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
HTML_ALT = re.compile(r"\balt\s*=\s*([\"'])(.*?)\1", re.IGNORECASE | re.DOTALL)
DIRECTIVE_IMAGE = re.compile(r"^[`:]{3,}\{(?:figure|image)\}.*\n((?::.*\n)*)", re.MULTILINE)
DIRECTIVE_ALT = re.compile(r"^:alt:(.*)$", re.MULTILINE)
BROKEN_BOX = re.compile(r"^`{3,}\{.*?\}.*`.*$", re.MULTILINE)


def check_notebook(path: Path, toc: Path) -> list[Problem]:
    """All problems of the notebook in `path`, which `toc`, the book's `_toc.yml`, must name."""
    notebook = read_notebook(path)
    problems = list(check_format(notebook))
    if not problems:  # the other checks rely on the parts that every notebook has
        problems = [problem for check in CHECKS for problem in check(notebook)]
    problems += [*check_title(path, notebook), *check_in_toc(path, toc)]
    return [Problem(p.what, f"{path.name}, {p.where}", p.remedy) for p in problems]


def check_format(notebook: NotebookNode) -> Iterator[Problem]:
    """The file keeps to the notebook format, and no two cells have the same id."""
    for error in iter_validate(notebook):
        place = ".".join(str(part) for part in error.path)
        yield Problem(f"not the notebook format: {error.message}", place or "the file", RUN)
    ids = [cell.get("id") for cell in notebook.cells]
    for number, own in enumerate(ids, start=1):
        if own in ids[: number - 1]:
            yield Problem(
                f"the id {own!r} of an earlier cell", f"cell {number}", f"Remove it. {RUN}"
            )


def check_counts(notebook: NotebookNode) -> Iterator[Problem]:
    """The code cells were executed once each, from the first to the last."""
    for expected, (number, cell) in enumerate(numbered_code_cells(notebook), start=1):
        if cell.execution_count != expected:
            what = f"execution count {cell.execution_count} instead of {expected}"
            yield Problem(what, f"cell {number}", RUN)


def check_errors(notebook: NotebookNode) -> Iterator[Problem]:
    """Nothing went wrong or was warned of, but in cells tagged `raises-exception`."""
    for number, cell in numbered_code_cells(notebook):
        may_raise = "raises-exception" in tags(cell)
        errors = [out for out in cell.outputs if out.output_type == "error"]
        if errors and not may_raise:
            remedy = "Repair it, or tag the cell `raises-exception` if the error is its point."
            yield Problem(f"a stored error, {errors[0].ename}", f"cell {number}", remedy)
        if may_raise and not errors:
            remedy = "Remove the tag, or bring the error back."
            yield Problem("tagged raises-exception, and none is stored", f"cell {number}", remedy)
        if any(out.get("name") == "stderr" for out in cell.outputs):
            yield Problem("output on stderr", f"cell {number}", "Do away with what warns there.")


def check_outputs_present(notebook: NotebookNode) -> Iterator[Problem]:
    """A cell that must show something has an output: a stripped notebook proves nothing."""
    for number, cell in numbered_code_cells(notebook):
        if not cell.outputs and must_show(parse_cell(cell.source)):
            yield Problem("its output is missing", f"cell {number}", RUN)


def must_show(cell: ast.Module) -> bool:
    """Whether running the cell is certain to show something, as far as its text tells.

    >>> [must_show(ast.parse(text)) for text in ("x = 1", "x", "print(x)", "f(x)")]
    [False, True, True, False]
    """
    if not cell.body:
        return False
    last = cell.body[-1]
    ends_in_value = isinstance(last, ast.Expr) and not isinstance(last.value, ast.Call | ast.Await)
    calls = [
        node.value.func
        for node in always_run(cell.body)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    return ends_in_value or any(ast.unparse(function) in SHOWING for function in calls)


def always_run(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements, and those inside `for` and `with`, which run too."""
    for statement in statements:
        yield statement
        if isinstance(statement, ast.For | ast.With):
            yield from always_run(statement.body)


def check_sizes(notebook: NotebookNode) -> Iterator[Problem]:
    """Outputs and the whole file are small enough for readers and for version control."""
    for number, cell in numbered_code_cells(notebook):
        size = len(json.dumps(cell.outputs).encode())
        if size > MAX_CELL_OUTPUT:
            what = f"{size / 1000:.0f} kB of output, over {MAX_CELL_OUTPUT / 1000:.0f} kB"
            yield Problem(what, f"cell {number}", "Show less, or a smaller figure.")
    size = len(notebook_text(notebook).encode())
    if size > MAX_NOTEBOOK:
        what = f"{size / 1000:.0f} kB, over {MAX_NOTEBOOK / 1000:.0f} kB"
        yield Problem(what, "the whole notebook", "Show less, or smaller figures.")


def check_figures(notebook: NotebookNode) -> Iterator[Problem]:
    """Each picture that a cell draws is described in its metadata, for readers who can't see it."""
    for number, cell in numbered_code_cells(notebook):
        kinds = [kind for output in cell.outputs for kind in output.get("data", {})]
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if any(kind.startswith("image/") for kind in kinds) and len(alt.strip()) < MIN_ALT:
            remedy = f'{DESCRIBE}, in the cell\'s metadata: "mystnb": {{"image": {{"alt": "…"}}}}.'
            yield Problem(f"a figure with alt text {alt!r}", f"cell {number}", remedy)


def check_text_images(notebook: NotebookNode) -> Iterator[Problem]:
    """Each picture in a text cell has alt text, in Markdown, HTML or a MyST directive."""
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "markdown":
            continue
        for alt in image_alts(cell.source):
            if len(alt.strip()) < MIN_ALT:
                where = f"cell {number}"
                yield Problem(f"an image with alt text {alt!r}", where, f"{DESCRIBE}.")


def image_alts(text: str) -> list[str]:
    """The alt text of each image in a text cell; "" where there is none.

    >>> image_alts("![A](a.png) <img src='b.png'>")
    ['A', '']
    """
    alts = MARKDOWN_IMAGE.findall(text)
    for image in HTML_IMAGE.findall(text):
        alt = HTML_ALT.search(image)
        alts.append(alt[2] if alt else "")
    for options in DIRECTIVE_IMAGE.findall(text + "\n"):
        alt = DIRECTIVE_ALT.search(options)
        alts.append(alt[1] if alt else "")
    return alts


def check_boxes(notebook: NotebookNode) -> Iterator[Problem]:
    """No box has a backtick in its title: Markdown would show the box as a line of text."""
    for number, cell in enumerate(notebook.cells, start=1):
        for line in BROKEN_BOX.findall(cell.source) if cell.cell_type == "markdown" else ():
            remedy = "Take the backticks out of the title."
            yield Problem(f"no box: {line[:60]}", f"cell {number}", remedy)


def check_solutions(notebook: NotebookNode) -> Iterator[Problem]:
    """Each cell tagged `exercise` has a cell tagged `solution` after it, before the next one."""
    unsolved = 0  # the number of the open exercise's cell
    for number, cell in enumerate(notebook.cells, start=1):
        if "exercise" in tags(cell):
            yield from no_solution(unsolved)
            unsolved = number
        elif "solution" in tags(cell):
            unsolved = 0
    yield from no_solution(unsolved)


def no_solution(unsolved: int) -> Iterator[Problem]:
    """The problem of the exercise in that cell; 0 stands for none."""
    if unsolved:
        remedy = "Add a cell tagged `solution` below it."
        yield Problem("an exercise without a solution", f"cell {unsolved}", remedy)


def check_title(path: Path, notebook: NotebookNode) -> Iterator[Problem]:
    """The first line is a title with the number of the file, `# 7 · Attention`."""
    first = notebook.cells[0].source.split("\n")[0] if notebook.cells else ""
    title = TITLE.match(first)
    if not title or title[1] != path.stem[:2].lstrip("0"):
        remedy = f"Write it in this form: # {path.stem[:2].lstrip('0')} · Title"
        yield Problem(f"the title is {first!r}", "cell 1", remedy)


def check_in_toc(path: Path, toc: Path) -> Iterator[Problem]:
    """The table of contents names the notebook, so that the book has a page of it."""
    files = toc_files(yaml.safe_load(toc.read_text(encoding="utf-8"))) if toc.exists() else []
    if f"notebooks/{path.stem}" not in {file.removesuffix(".ipynb") for file in files}:
        remedy = f"Add `- file: notebooks/{path.stem}`."
        yield Problem(f"{toc.name} doesn't name it", "the whole notebook", remedy)


def toc_files(entry: object) -> list[str]:
    """Every `file:` of a table of contents, at any depth.

    >>> toc_files({"root": "a", "chapters": [{"file": "b", "sections": [{"file": "c"}]}]})
    ['b', 'c']
    """
    if isinstance(entry, list):
        return [file for part in entry for file in toc_files(part)]
    if not isinstance(entry, dict):
        return []
    own = [entry["file"]] if "file" in entry else []
    return own + [file for part in entry.values() for file in toc_files(part)]


CHECKS = (
    check_counts,
    check_errors,
    check_outputs_present,
    check_sizes,
    check_figures,
    check_text_images,
    check_boxes,
    check_solutions,
    check_budget,
)
