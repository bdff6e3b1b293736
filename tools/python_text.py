"""The text that `python-small` learns from: Python's library, and packages that are installed here.

    python tools/python_text.py runs/python-small/data

The folder is what `prepare --corpus sources` wrote: the library's modules, split. Beside them comes
`text.jsonl`: the library's training part, `REPEATS` times, and once the modules of `PACKAGES`: not
their tests, nothing like a module before, and so above all nothing like one that is held back.
`text.json` says how much came from which package, and its version.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import tokenize
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from transformer_lessons.cli.prepare import Counts, refine
from transformer_lessons.data.config import DataConfig
from transformer_lessons.support.corpus import python_sources
from transformer_lessons.support.documents import Document
from transformer_lessons.support.files import new_file, sha256, write_json

# Names of their folders. Not transformers: its models repeat each other.
PACKAGES = """
    IPython PIL _pytest accelerate anyio babel click coverage datasets dateutil docutils filelock
    fontTools fsspec google huggingface_hub hypothesis ipykernel jedi jinja2 jupyter_client
    jupyter_server lark matplotlib mpmath mypy networkx numpy onnx onnxscript packaging pandas parso
    pip playwright prompt_toolkit psutil pybtex pydantic pygments pyparsing pypdf rich setuptools
    sphinx sqlalchemy sympy torch tornado traitlets typer tyro urllib3 yaml
"""
NOT_READ = {"test", "tests", "testing", "_vendor", "vendored"}
REPEATS = 6  # of the library, which is what the model is judged by


def modules(package: str) -> Iterator[Document]:
    """The modules of an installed `package`, in order of their paths."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit(f"no package {package} is installed; `make install` installs it")
    for folder in map(Path, spec.submodule_search_locations):
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder.parent)
            if not NOT_READ & set(name.parts):
                with suppress(SyntaxError, UnicodeDecodeError), tokenize.open(path) as file:
                    yield Document(file.read(), name.as_posix())


def write_text(data: Path) -> dict:
    """Write `text.jsonl` and `text.json` into `data`, and return what the latter holds."""
    train = (data / "train.jsonl").read_bytes()
    distributions = importlib.metadata.packages_distributions()
    n_modules, n_bytes = Counter[str](), Counter[str]()

    def documents() -> Iterator[Document]:
        yield from python_sources()  # first, so that what is like it is a duplicate of it
        for package in PACKAGES.split():
            yield from modules(package)

    refined = refine(documents(), DataConfig(), Counts(), lambda dropped: None)
    with new_file(data / "text.jsonl") as file:
        for _ in range(REPEATS):
            file.write(train)
        for _, document in refined:
            if not document.source.startswith("python source "):
                package = document.source.split("/")[0]
                n_modules[package] += 1
                n_bytes[package] += len(document.text.encode())
                line = json.dumps({"text": document.text, "source": document.source})
                file.write(line.encode() + b"\n")
    packages = {
        name: {
            "version": importlib.metadata.version(distributions[name][0]),
            "modules": n_modules[name],
            "bytes": n_bytes[name],
        }
        for name in PACKAGES.split()
    }
    facts = {
        "library": {"repeats": REPEATS, "bytes": len(train)},
        "packages": packages,
        "sha256": sha256(data / "text.jsonl"),
    }
    write_json(data / "text.json", facts, indent=2)
    return facts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="what `prepare --corpus sources` wrote")
    print(json.dumps(write_text(parser.parse_args().data), indent=2))
