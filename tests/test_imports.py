"""What importing the package costs, what it offers, and that its imports point one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import transformer_lessons

PACKAGE = Path(transformer_lessons.__file__).parent

# DESIGN section 1. A module may import from its own part and from parts of a lower stage.
STAGES = {
    "errors": 0,
    "config": 1,
    "device": 1,
    "files": 1,
    "plotting": 1,
    "assets": 2,
    "presets": 2,
    "text": 3,
    "model": 3,
    "training": 4,
    "generation": 4,
    "weights": 5,
    "analysis": 5,
    "exercises": 6,
}
LAST = 7  # cli, __main__, terminal display: may import everything, nothing imports them


def part_of(module: str) -> str:
    """`transformer_lessons.data.pairs` -> `text`; the package itself -> ''."""
    return [*module.split("."), ""][1]


def imports_of(path: Path) -> list[str]:
    """The names of the package's modules that a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: relative import"
            found.append(node.module)
    return [name for name in found if name.split(".")[0] == "transformer_lessons"]


def wrong_imports(path: Path, name: str) -> list[str]:
    """The imports of the module `name` that lead to a later stage or to a sibling part."""
    part = part_of(name)
    own = STAGES.get(part, LAST)
    wrong = []
    for imported in imports_of(path):
        other = part_of(imported)
        stage = STAGES.get(other, LAST)
        if other != part and not (stage < own or own == stage == LAST):
            wrong.append(imported)
    return wrong


def modules() -> list[tuple[str, Path]]:
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]
    return list(zip(names, paths, strict=True))


@pytest.mark.parametrize(("name", "path"), modules())
def test_imports_point_one_way(name, path):
    assert wrong_imports(path, name) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("transformer_lessons.model.block", "from transformer_lessons.training.loss import x"),
        ("transformer_lessons.data.pairs", "from transformer_lessons.model.decoder import x"),
        ("transformer_lessons.training.loss", "import transformer_lessons.generation.generate"),
        ("transformer_lessons.analysis.logit_lens", "import transformer_lessons"),
        ("transformer_lessons.errors", "from transformer_lessons.config import x"),
        ("transformer_lessons.exercises.grader", "from transformer_lessons.cli.main import main"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, name, line):
    path = tmp_path / "module.py"
    path.write_text(f"def f():\n    {line}\n", encoding="utf-8")
    assert len(wrong_imports(path, name)) == 1


def test_importing_the_package_is_light():
    heavy = ["matplotlib", "tyro", "rich", "transformers", "pandas", "IPython", "pytest"]
    code = (
        "import sys, transformer_lessons\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
        "print('transformer_lessons.cli' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["[]", "False", ""]


def test_importing_prints_nothing_and_draws_no_random_number():
    code = (
        "import torch\n"
        "before = torch.random.get_rng_state()\n"
        "import transformer_lessons\n"
        "assert torch.equal(before, torch.random.get_rng_state())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_the_public_names_of_the_design_are_there():
    promised = {
        *("ModelConfig", "TrainConfig", "preset", "Decoder", "count_parameters", "ByteTokenizer"),
        *("attend", "apply_rope", "layer_norm", "cross_entropy", "cosine_schedule", "Trainer"),
        *("save_checkpoint", "load_checkpoint", "latest_checkpoint", "generate", "Sampler"),
        *("stream", "evaluate", "LessonsError", "rms_norm", "swiglu"),
        *("BPETokenizer", "TiktokenTokenizer", "DataConfig"),
    }
    assert promised <= set(transformer_lessons.__all__)
    assert transformer_lessons.__all__ == sorted(transformer_lessons.__all__)


@pytest.mark.parametrize("name", transformer_lessons.__all__)
def test_a_public_name_is_the_packages_own_and_documented(name):
    value = getattr(transformer_lessons, name)
    assert value.__module__.startswith("transformer_lessons.")
    assert value.__name__ == name
    assert value.__doc__
