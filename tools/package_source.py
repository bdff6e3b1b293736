"""The package as text: every top-level definition, found without importing anything."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "transformer_lessons"
# The parts of the book. What is public in them is listed; support, cli and exercises are not.
TAUGHT_ROOMS = (
    "tokenizers",
    "data",
    "model",
    "autograd",
    "training",
    "generation",
    "weights",
    "analysis",
)


@dataclass(frozen=True)
class Definition:
    """A top-level class, function or constant of the package, with its exact source text.

    Comment lines directly above it, and its decorators, belong to the text.
    """

    module: str  # below the package: "model.attention"; a folder's __init__.py is the folder
    name: str
    text: str
    is_public: bool  # a class or function whose name has no leading underscore

    @property
    def path(self) -> str:
        """What a listing tag calls it: "model.attention.attend"."""
        return f"{self.module}.{self.name}" if self.module else self.name

    @property
    def is_taught(self) -> bool:
        """Whether it belongs to a taught room."""
        return self.module.split(".")[0] in TAUGHT_ROOMS

    @property
    def n_lines(self) -> int:
        """How many lines the text has."""
        return self.text.count("\n") + 1


def read_package(root: Path) -> dict[str, Definition]:
    """The definitions of the package in the repository at `root`, by their dotted path."""
    definitions = {}
    for module, source in read_modules(root).items():
        for definition in module_definitions(module, source):
            definitions[definition.path] = definition
    return definitions


def read_modules(root: Path) -> dict[str, str]:
    """The source text of every module of the package, by its dotted name below the package."""
    folder = root / PACKAGE
    files = sorted(folder.rglob("*.py"))
    return {module_name(file.relative_to(folder)): file.read_text("utf-8") for file in files}


def module_name(file: Path) -> str:
    """The dotted name of a module below the package.

    >>> module_name(Path("model/attention.py")), module_name(Path("exercises/__init__.py"))
    ('model.attention', 'exercises')
    """
    return ".".join(part for part in file.with_suffix("").parts if part != "__init__")


def module_definitions(module: str, source: str) -> Iterator[Definition]:
    """The top-level definitions in the text of one module, in its order."""
    lines = source.split("\n")
    for node in ast.parse(source, filename=f"{PACKAGE}/{module}").body:
        first, is_public = node.lineno, False  # lines are counted from 1
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name, is_public = node.name, not node.name.startswith("_")
            first = min(part.lineno for part in [node, *node.decorator_list])
        else:
            name = constant_name(node)
        if name:
            while first > 1 and lines[first - 2].startswith("#"):
                first -= 1
            text = "\n".join(lines[first - 1 : node.end_lineno])
            yield Definition(module, name, text, is_public)


def constant_name(node: ast.stmt) -> str:
    """The UPPER_CASE name that a statement assigns, or "".

    >>> constant_name(ast.parse("IGNORE: int = -100").body[0])
    'IGNORE'
    """
    targets = {ast.Assign: "targets", ast.AnnAssign: "target"}.get(type(node))
    target = getattr(node, targets) if targets else None
    if isinstance(target, list):
        target = target[0] if len(target) == 1 else None
    return target.id if isinstance(target, ast.Name) and target.id.isupper() else ""
