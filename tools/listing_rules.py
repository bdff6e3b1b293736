"""The rules that make the package and the book one: all of it shown, once, in digestible pieces."""

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from notebook_files import parse_cell
from package_source import PACKAGE, Definition
from problems import Problem

MAX_DEFINITION_LINES = 45  # a screen
MAX_MODULE_LINES = 250
EXCEPTIONS_FILE = "tools/not_listed.toml"

Exceptions = Mapping[str, Mapping[str, str]]  # table -> dotted path -> reason


def read_exceptions(path: Path) -> Exceptions:
    """The tables [modules], [definitions] and [long] of `not_listed.toml`; each may be missing.

    A reason that is not a sentence, or another table, raises `ValueError`.
    """
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    for name, entries in tables.items():
        if name not in ("modules", "definitions", "long"):
            raise ValueError(f"{path}: unknown table [{name}]")
        for entry, reason in entries.items():
            if not isinstance(reason, str) or len(reason.split()) < 3:
                raise ValueError(f"{path}: {entry!r} in [{name}] needs a reason in words")
    return {name: tables.get(name, {}) for name in ("modules", "definitions", "long")}


def check_coverage(
    listed: Sequence[tuple[str, str]], definitions: Mapping[str, Definition], exceptions: Exceptions
) -> Iterator[Problem]:
    """Every public definition is listed exactly once, or is excused with a reason.

    `listed` holds (where, target) of every listing. An excuse that excuses nothing is a problem.
    """
    places = defaultdict(list)
    for where, target in listed:
        places[target].append(where)
    for target, found in places.items():
        if len(found) > 1:
            what = f"{target} is listed {len(found)} times, the first time in {found[0]}"
            yield Problem(what, found[-1], "Keep one: a definition has one home in the book.")
    unlisted = [d for d in definitions.values() if d.is_public and d.path not in places]
    for definition in unlisted:
        if not excuses_for(definition, exceptions):
            remedy = f"Tag a cell `listing:{definition.path}`, or say why not in {EXCEPTIONS_FILE}."
            where = f"{PACKAGE}, {definition.path}"
            yield Problem("a public definition that no notebook lists", where, remedy)
    yield from check_excuses(unlisted, places, exceptions)


def excuses_for(definition: Definition, exceptions: Exceptions) -> list[tuple[str, str]]:
    """The entries (table, path) that excuse a definition from being listed."""
    parts = definition.module.split(".")
    folders = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
    excuses = [("modules", folder) for folder in folders if folder in exceptions["modules"]]
    if definition.path in exceptions["definitions"]:
        excuses.append(("definitions", definition.path))
    return excuses


def check_excuses(
    unlisted: Sequence[Definition], places: Mapping[str, Sequence[str]], exceptions: Exceptions
) -> Iterator[Problem]:
    """Each excuse is needed: it is the only one of some unlisted definition, and of none listed."""
    needed = set()
    for definition in unlisted:
        needed.update(excuses_for(definition, exceptions)[:1])
    for table in ("modules", "definitions"):
        for entry in exceptions[table]:
            where = f"{EXCEPTIONS_FILE}, [{table}], {entry!r}"
            inside = [path for path in places if path == entry or path.startswith(f"{entry}.")]
            if inside:
                what = f"stale: {inside[0]} is listed in {places[inside[0]][0]}"
                yield Problem(what, where, "Remove the entry, or name only what isn't listed.")
            elif (table, entry) not in needed:
                what = "stale: it excuses nothing that exists and isn't excused already"
                yield Problem(what, where, "Remove or correct the entry.")


def check_redefinitions(
    sketches: Sequence[tuple[str, str]], definitions: Mapping[str, Definition]
) -> Iterator[Problem]:
    """No cell (where, source) without a listing tag defines a name of the package's public face."""
    public = {d.name: d.path for d in definitions.values() if d.is_public}
    for where, source in sketches:
        for name in defined_names(parse_cell(source)):
            if name in public:
                what = f"defines {name!r}, the name of {PACKAGE}.{public[name]}"
                remedy = f"Give the sketch another name, or tag the cell `listing:{public[name]}`."
                yield Problem(what, where, remedy)


def defined_names(node: ast.AST) -> Iterator[str]:
    """The functions and classes that running a cell defines, those under if, for, with included.

    >>> list(defined_names(ast.parse("if True:\\n  def f():\\n    def inner(): pass")))
    ['f']
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child.name
        else:
            yield from defined_names(child)


def check_lengths(
    modules: Mapping[str, str], definitions: Mapping[str, Definition], exceptions: Exceptions
) -> Iterator[Problem]:
    """A definition has at most 45 lines and a module 250, or a reason in the table [long]."""
    lengths = {name: (source.count("\n"), MAX_MODULE_LINES) for name, source in modules.items()}
    lengths |= {d.path: (d.n_lines, MAX_DEFINITION_LINES) for d in definitions.values()}
    too_long = {path: pair for path, pair in lengths.items() if pair[0] > pair[1]}
    for path, (n_lines, limit) in too_long.items():
        if path not in exceptions["long"]:
            remedy = f"Split it, or say why not in {EXCEPTIONS_FILE}, [long]."
            yield Problem(
                f"{n_lines} lines, over the limit of {limit}", f"{PACKAGE}, {path}", remedy
            )
    for entry in exceptions["long"]:
        if entry not in too_long:
            where = f"{EXCEPTIONS_FILE}, [long], {entry!r}"
            yield Problem("stale: no such thing is over its limit", where, "Remove the entry.")
