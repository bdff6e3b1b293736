"""The pages of the reference: every public name of the taught folders, from its docstring.

Sphinx reads the docstrings when it builds the book; what is written here, by `publish.py`, is only
which names there are, in which file, and which lesson shows them.
"""

import ast
import re
from pathlib import Path

from listings import TAG
from notebook_files import ROOT, notebook_paths, numbered_code_cells, read_notebook, tags
from package_source import PACKAGE, TAUGHT_ROOMS, Definition, read_modules, read_package

FOLDER = Path("book/reference")


def reference_pages(root: Path = ROOT) -> dict[Path, str]:
    """A page for each taught folder, and the page that lists them."""
    lessons, modules = listed_in(root), read_modules(root)
    public = [one for one in read_package(root).values() if one.is_public and one.is_taught]
    pages = {}
    for room in TAUGHT_ROOMS:
        inside = [one for one in public if one.module.split(".")[0] == room]
        pages[FOLDER / f"{room}.md"] = room_page(room, inside, modules, lessons)
    return pages


def listed_in(root: Path) -> dict[str, tuple[str, str]]:
    """For each listed name, like "model.attention.attend", its lesson's number and file."""
    found = {}
    for path in notebook_paths(root):
        for _, cell in numbered_code_cells(read_notebook(path)):
            for tag in tags(cell):
                if tag.startswith(TAG):
                    found[tag.removeprefix(TAG)] = (str(int(path.name[:2])), path.stem)
    return found


def room_page(
    room: str,
    definitions: list[Definition],
    modules: dict[str, str],
    lessons: dict[str, tuple[str, str]],
) -> str:
    """The page of one folder: a section for each file, an entry for each name."""
    index = "All names in alphabetical order are in the {ref}`index <genindex>`."
    parts = [f"# Reference: {room}", f"{summary(modules[room])} {index}"]
    for module in sorted({one.module for one in definitions}):
        parts += [f"## {module}", summary(modules[module])]
        for one in (one for one in definitions if one.module == module):
            number, file = lessons[one.path]
            kind = "autoclass" if re.search(r"^class ", one.text, re.MULTILINE) else "autofunction"
            members = "\n   :members:" if kind == "autoclass" else ""
            link = f"   Shown in :doc:`lesson {number} </notebooks/{file}>`."
            entry = f".. {kind}:: {PACKAGE}.{one.path}{members}\n\n{link}"
            parts.append(f"```{{eval-rst}}\n{entry}\n```")
    return "\n\n".join(parts) + "\n"


def summary(source: str) -> str:
    """The first paragraph of a module's docstring, as one line."""
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return " ".join(docstring.split("\n\n")[0].split())
