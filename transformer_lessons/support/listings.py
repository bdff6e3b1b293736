"""Listings that can be edited: a changed definition takes the package's place while it runs.

Each listing cell of a lesson ends with `use("transformer_lessons.model.attention", "attend")`.
"""

import ast
import importlib
import inspect
import linecache
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

PACKAGE = "transformer_lessons"


def use(module_name: str, *names: str) -> None:
    """Make the names of a listing cell and those of the package one.

    Where the cell defines a name as the package does, but for comments and layout, the cell gets
    the package's object. Where the reader has changed the definition, theirs takes the package's
    place wherever it was imported, until the kernel restarts or the cell is run unchanged.
    """
    frame = sys._getframe(1)
    # The text of the cell that runs in `frame`: IPython keeps it where tracebacks look for it.
    text = "".join(linecache.getlines(frame.f_code.co_filename))
    cell, module = _definitions(text), importlib.import_module(module_name)
    package = _definitions(inspect.getsource(module))
    originals = vars(module).setdefault("_originals", {})
    for name in names:
        current = getattr(module, name)
        original = originals.setdefault(name, current)
        is_edited = cell.get(name) != package.get(name)
        new = frame.f_globals[name] if is_edited else original
        if is_edited:
            _adopt(new, module)
            print(f"The package now uses your {name}, in everything that is made from here on.")
            print("To go back, undo the change and run this cell again, or restart the kernel.")
        elif current is not original:
            print(f"{name} is the package's again.")
        _replace(current, new)
        frame.f_globals[name] = new


def _definitions(source: str) -> dict[str, str]:
    """What a text defines at its top level: each name with its syntax tree, written out."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.dump(node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.dump(node.value)
    return found


def _adopt(new: Any, module: ModuleType) -> None:
    """Let a reader's function or class find what the package's module knows, and be pickled."""
    for function in _functions(new):
        for name in function.__code__.co_names:
            if name in vars(module):
                function.__globals__.setdefault(name, vars(module)[name])
    if hasattr(new, "__module__"):
        new.__module__ = module.__name__


def _replace(old: Any, new: Any) -> None:
    """Put `new` in the place of `old` in all modules of the package: names, tables, defaults."""
    if old is new:
        return
    modules = [m for name, m in sys.modules.items() if name.split(".")[0] == PACKAGE]
    for module in modules:
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)
            elif type(value) in (tuple, list) and any(held is old for held in value):
                setattr(module, name, type(value)(new if held is old else held for held in value))
            elif isinstance(value, dict) and name != "_originals":
                value.update({key: new for key, held in value.items() if held is old})
            for function in _functions(value):
                if old in (function.__defaults__ or ()):
                    defaults = function.__defaults__ or ()
                    function.__defaults__ = tuple(new if d is old else d for d in defaults)


def _functions(value: Any) -> Iterator[FunctionType]:
    """A function itself, or the methods of a class."""
    members = vars(value).values() if isinstance(value, type) else [value]
    yield from (member for member in members if isinstance(member, FunctionType))
