"""Listings: the notebook cells that show the package's own text, written and checked.

    python tools/listings.py --write     copy the package's text into the listing cells
    python tools/listings.py --check     report whatever keeps package and book from being one

A code cell tagged `listing:model.attention.attend` holds the text of `attend`, as it is in
`transformer_lessons/model/attention.py`, and then calls `use`, so that later cells (and pickles)
use the package's object, or the package the reader's version. A cell may carry several such tags.
"""

import argparse
import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from pathlib import Path

from listing_rules import check_coverage, check_lessons, check_redefinitions
from nbformat import NotebookNode
from notebook_files import (
    ROOT,
    notebook_paths,
    notebook_text,
    numbered_code_cells,
    read_notebook,
    tags,
    write_if_changed,
)
from package_source import PACKAGE, Definition, read_modules, read_package
from problems import Problem, report
from repository import repository_url, with_install

TAG = "listing:"
LINE_LENGTH = 100
REMEDY = "Run: python tools/listings.py --write"


def write_listings(root: Path, paths: Sequence[Path]) -> list[Path]:
    """Write the package's text into the listing cells of `paths`; return the files that changed.

    Outputs, ids and tags stay. A cell with an unknown target stays as it is, for `--check` to name.
    """
    definitions, url = read_package(root), repository_url(root)
    changed = []
    for path in paths:
        notebook = read_notebook(path)
        for _, cell in islice(numbered_code_cells(notebook), 1):
            cell.source = with_install(cell.source, url)
        for _, cell in numbered_code_cells(notebook):
            targets = listing_targets(cell)
            if targets and all(target in definitions for target in targets):
                cell.source = listing_source([definitions[target] for target in targets])
        if write_if_changed(path, notebook_text(notebook)):
            changed.append(path)
    return changed


def check_listings(root: Path) -> list[Problem]:
    """Everything that keeps the package and the notebooks of `root` from being one book."""
    paths = notebook_paths(root)
    if not paths:
        return [Problem("no notebooks", "notebooks", "The book is made of them.")]
    definitions = read_package(root)
    notebooks = {f"notebooks/{path.name}": read_notebook(path) for path in paths}
    listed, sketches = split_cells(notebooks)
    targets = [(where, target) for where, target, _ in listed]
    return [
        *check_texts(listed, definitions),
        *check_coverage(targets, definitions),
        *check_lessons(targets, definitions, read_modules(root)),
        *check_redefinitions(sketches, definitions),
        *check_installs(notebooks, repository_url(root)),
    ]


def split_cells(
    notebooks: Mapping[str, NotebookNode],
) -> tuple[list[tuple[str, str, NotebookNode]], list[tuple[str, str]]]:
    """The listings (where, target, cell) and the other code cells (where, source)."""
    listed, sketches = [], []
    for name, notebook in notebooks.items():
        for number, cell in numbered_code_cells(notebook):
            where = f"{name}, cell {number}"
            targets = listing_targets(cell)
            listed += [(where, target, cell) for target in targets]
            sketches += [] if targets else [(where, cell.source)]
    return listed, sketches


def listing_targets(cell: NotebookNode) -> list[str]:
    """The dotted paths that a cell lists, in the order of its tags."""
    return [tag.removeprefix(TAG) for tag in tags(cell) if tag.startswith(TAG)]


def listing_source(definitions: Sequence[Definition]) -> str:
    """The text of a listing cell: the definitions, then the call that makes them the package's."""
    texts = [definition.text for definition in definitions]
    return "\n\n\n".join([*texts, use_lines(definitions)])


def use_lines(definitions: Sequence[Definition]) -> str:
    """The calls that make cell and package one, one for each module, as the linter wraps."""
    lines = []
    for module in sorted({definition.module for definition in definitions}):
        names = [definition.name for definition in definitions if definition.module == module]
        quoted = [f'"{name}"' for name in (f"{PACKAGE}.{module}".rstrip("."), *names)]
        arguments = ", ".join(quoted)
        if len(f"use({arguments})") <= LINE_LENGTH:
            lines.append(f"use({arguments})")
        elif len(f"    {arguments}") <= LINE_LENGTH:
            lines.append(f"use(\n    {arguments}\n)")
        else:
            lines.append("use(\n" + "".join(f"    {name},\n" for name in quoted) + ")")
    return "\n".join(lines)


def check_texts(
    listed: Sequence[tuple[str, str, NotebookNode]], definitions: Mapping[str, Definition]
) -> Iterator[Problem]:
    """Every target exists, and every listing cell holds exactly the package's text."""
    for place, target, cell in listed:
        where = f"{place}, listing {target}"
        targets = listing_targets(cell)
        if target not in definitions:
            near = difflib.get_close_matches(target, definitions, n=1)
            remedy = f"Is {near[0]} meant?" if near else "Correct or remove the tag."
            yield Problem(f"no such definition in {PACKAGE}", where, remedy)
        elif target == targets[0] and all(path in definitions for path in targets):
            expected = listing_source([definitions[path] for path in targets])
            if cell.source != expected:
                difference = first_difference(cell.source, expected)
                yield Problem(f"the text is not the package's: {difference}", where, REMEDY)


def check_installs(notebooks: Mapping[str, NotebookNode], url: str) -> Iterator[Problem]:
    """The first code cell of each lesson installs the package from `url`, or not at all."""
    for name, notebook in notebooks.items():
        for number, cell in islice(numbered_code_cells(notebook), 1):
            if cell.source != with_install(cell.source, url):
                what = "its lines that install the package aren't those of _config.yml"
                yield Problem(what, f"{name}, cell {number}", REMEDY)


def first_difference(cell: str, package: str) -> str:
    """Where two texts part, in words.

    >>> first_difference("a = 1\\nb = 2", "a = 1\\nb = 3")
    "line 2 is 'b = 2', in the package 'b = 3'"
    """
    lines = enumerate(zip_longest(cell.split("\n"), package.split("\n")), start=1)
    number, pair = next((number, pair) for number, pair in lines if pair[0] != pair[1])
    ours, theirs = ("missing" if line is None else repr(line) for line in pair)
    return f"line {number} is {ours}, in the package {theirs}"


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write or check the listings of the repository at `root`; 1 when something is wrong."""
    parser = argparse.ArgumentParser(description="Write or check the listings of the notebooks.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="copy the package's text into them")
    action.add_argument("--check", action="store_true", help="report every problem, change nothing")
    if parser.parse_args(arguments).write:
        for path in write_listings(root, notebook_paths(root)):
            print(f"written: notebooks/{path.name}")
        return 0
    return report(check_listings(root))


if __name__ == "__main__":
    sys.exit(main())
