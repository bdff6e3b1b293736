"""The rule that makes the package and the book one: what is taught is shown, all of it, once."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from notebook_files import parse_cell
from package_source import PACKAGE, TAUGHT_ROOMS, Definition
from problems import Problem


def check_coverage(
    listed: Sequence[tuple[str, str]], definitions: Mapping[str, Definition]
) -> Iterator[Problem]:
    """Taught rooms: every public definition is listed exactly once. Elsewhere: at most once.

    `listed` holds (where, target) of every listing. Private definitions are never listed.
    """
    places = defaultdict(list)
    for where, target in listed:
        places[target].append(where)
    for target, found in places.items():
        if len(found) > 1:
            what = f"{target} is listed {len(found)} times, the first time in {found[0]}"
            yield Problem(what, found[-1], "Keep one: a definition has one home in the book.")
        if target in definitions and definitions[target].name.startswith("_"):
            remedy = "Remove the listing, or the underscore: what readers are shown is public."
            yield Problem(f"{target} is private, and is listed", found[0], remedy)
    for definition in definitions.values():
        if definition.is_public and definition.is_taught and definition.path not in places:
            where = f"{PACKAGE}, {definition.path}"
            remedy = (
                f"Tag a cell `listing:{definition.path}`, call it _{definition.name} if it isn't "
                "worth showing, or move it to support or cli."
            )
            yield Problem("a public definition of a taught room, listed nowhere", where, remedy)


def check_lessons(
    listed: Sequence[tuple[str, str]],
    definitions: Mapping[str, Definition],
    modules: Mapping[str, str],
) -> Iterator[Problem]:
    """The docstring of a module in a taught room names the lessons that list its definitions."""
    lessons = defaultdict(set)
    for where, target in listed:
        number = re.match(r"notebooks/(\d+)_", where)
        if target in definitions and number:
            lessons[definitions[target].module].add(int(number[1]))
    for module, source in modules.items():
        if module.split(".")[0] not in TAUGHT_ROOMS or module not in lessons:
            continue
        missing = lessons[module] - named_lessons(ast.get_docstring(ast.parse(source)) or "")
        if missing:
            numbers = " and ".join(f"lesson {number}" for number in sorted(missing))
            what = f"its docstring doesn't name {numbers}, where it is listed"
            remedy = 'Write "Lesson 7." or "Lessons 7 and 8.", with its numbers.'
            yield Problem(what, f"{PACKAGE}, {module}", remedy)


def named_lessons(docstring: str) -> set[int]:
    """The numbers of the lessons that a text names.

    >>> sorted(named_lessons("Attention, in 2 ways. Lessons 7 to 9 and 12. See also lesson 20."))
    [7, 8, 9, 12, 20]
    """
    lists = re.findall(r"\b[Ll]essons? (\d+(?:(?:, | and |, and | to |–)\d+)*)", docstring)
    ranges = [pair for text in lists for pair in re.findall(r"(\d+)(?:(?: to |–)(\d+))?", text)]
    return {n for first, last in ranges for n in range(int(first), int(last or first) + 1)}


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
