"""How large the package is, beside what it may be.

    python tools/size.py     a table of the rooms, and every module or definition that is too long

A function or method has at most 45 lines, so that it is read on one screen. A class may be longer,
for it is read method by method. A constant is a table, and only its module bounds it.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from notebook_files import ROOT
from package_source import PACKAGE, TAUGHT_ROOMS, Definition, read_modules, read_package
from problems import Problem, report

# What twenty-six lessons and the commands need. A full room grows only if another one shrinks.
BUDGETS = {
    "tokenizers": 810,
    "data": 890,
    "model": 1180,
    "autograd": 200,
    "training": 2010,
    "generation": 1080,
    "weights": 2000,
    "analysis": 220,
    "taught": 8380,  # less than its parts together: not every room can be full
    "support": 2930,
    "cli": 3220,
}
MAX_FUNCTION, MAX_CLASS, MAX_MODULE = 45, 130, 250
# The path of what may be longer, and why it stays whole.
LONG = {
    "tokenizers.bpe.BPETokenizer": "Whatever a tokenizer is asked for; each method fits a screen.",
}


def check_sizes(root: Path) -> list[Problem]:
    """Every room, module and definition of the package at `root` that is over its limit."""
    modules, definitions = read_modules(root), read_package(root)
    return [*check_rooms(room_sizes(modules)), *check_lengths(modules, definitions)]


def room_sizes(modules: Mapping[str, str]) -> dict[str, int]:
    """The lines of Python in each room that has a budget."""
    sizes: Counter[str] = Counter()
    for module, source in modules.items():
        room = module.split(".")[0]
        sizes[room] += source.count("\n")
        sizes["taught"] += source.count("\n") if room in TAUGHT_ROOMS else 0
    return {room: sizes[room] for room in BUDGETS}


def check_rooms(sizes: Mapping[str, int]) -> Iterator[Problem]:
    """Each room keeps to its budget."""
    for room, n_lines in sizes.items():
        if n_lines > BUDGETS[room]:
            what = f"{n_lines} lines, over the budget of {BUDGETS[room]}"
            yield Problem(what, f"{PACKAGE}, {room}", "When something must go in, something goes.")


def check_lengths(
    modules: Mapping[str, str], definitions: Mapping[str, Definition]
) -> Iterator[Problem]:
    """No module, function, method or class is over its limit, but for those in `LONG`."""
    found = dict(too_long(modules, definitions))
    for path, what in found.items():
        if path not in LONG:
            remedy = "Split it, or say in LONG of tools/size.py why it must stay whole."
            yield Problem(what, f"{PACKAGE}, {path}", remedy)
    for path in LONG:
        if path not in found:
            yield Problem("it is not over any limit", f"LONG, {path}", "Remove the entry.")


def too_long(
    modules: Mapping[str, str], definitions: Mapping[str, Definition]
) -> Iterator[tuple[str, str]]:
    """The path of everything over its limit, and by how much."""
    for module, source in modules.items():
        n_lines = source.count("\n")
        if n_lines > MAX_MODULE and not module.startswith("exercises.lesson_"):
            yield module, f"{n_lines} lines, over the limit of {MAX_MODULE} for a module"
    for definition in definitions.values():
        node = ast.parse(definition.text).body[0]
        if isinstance(node, ast.ClassDef) and definition.n_lines > MAX_CLASS:
            what = f"{definition.n_lines} lines, over the limit of {MAX_CLASS} for a class"
            yield definition.path, what
        for part in [node, *ast.iter_child_nodes(node)]:
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = lines_of(part)
                if n_lines > MAX_FUNCTION:
                    path = definition.path if part is node else f"{definition.path}.{part.name}"
                    yield path, f"{n_lines} lines, over the limit of {MAX_FUNCTION} for a function"


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The number of lines of a function or method, decorators included."""
    first = min(part.lineno for part in [node, *node.decorator_list])
    return (node.end_lineno or first) - first + 1


def main(root: Path = ROOT) -> int:
    """Print the table and what is too long; 1 when anything is."""
    sizes = room_sizes(read_modules(root))
    print(f"{'room':<12}{'lines':>7}{'budget':>8}")
    for room, n_lines in sizes.items():
        print(f"{room:<12}{n_lines:>7,}{BUDGETS[room]:>8,}{'  over' * (n_lines > BUDGETS[room])}")
    return report(check_sizes(root))


if __name__ == "__main__":
    sys.exit(main())
