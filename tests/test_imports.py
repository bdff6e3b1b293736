"""What importing the package costs, what it offers, and that its imports point one way."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import transformer_lessons

PACKAGE = Path(transformer_lessons.__file__).parent

# A module may import from its own room and from those of a lower stage. Support is a leaf: readers
# of formats return plain values there, and the rooms above make tokenizers and models of them.
STAGES = {
    "errors": 0,
    "config": 1,
    "device": 1,
    "lazy": 0,
    "support": 2,
    "presets": 3,
    "tokenizers": 3,
    "model": 3,
    "autograd": 3,
    "data": 4,
    "training": 5,
    "generation": 5,
    "weights": 6,
    "analysis": 7,
    "exercises": 8,
}
ROOMS = ("tokenizers", "data", "model", "autograd", "training", "generation", "weights", "analysis")
LAST = 9  # cli, __main__: may import everything, nothing imports them


def part_of(module: str) -> str:
    """`transformer_lessons.data.pairs` -> `data`; the package itself -> ''."""
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
    """The imports of the module `name` that lead to a later stage or to a sibling room."""
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
        ("transformer_lessons.data.pairs", "from transformer_lessons.training.loss import x"),
        ("transformer_lessons.training.loss", "import transformer_lessons.generation.generate"),
        ("transformer_lessons.analysis.logit_lens", "import transformer_lessons"),
        ("transformer_lessons.errors", "from transformer_lessons.config import x"),
        ("transformer_lessons.exercises.grader", "from transformer_lessons.cli.main import main"),
        ("transformer_lessons.support.files", "from transformer_lessons.model.decoder import x"),
        ("transformer_lessons.model.rope", "from transformer_lessons.tokenizers.bpe import x"),
        ("transformer_lessons.tokenizers.bpe", "from transformer_lessons.data.pairs import x"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, name, line):
    path = tmp_path / "module.py"
    path.write_text(f"def f():\n    {line}\n", encoding="utf-8")
    assert len(wrong_imports(path, name)) == 1


def test_training_knows_no_tokenizer():
    # By name it may, in annotations: an import for type checkers is none when the program runs.
    found = set()
    for path in (PACKAGE / "training").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for_types = [n for n in ast.walk(tree) if isinstance(n, ast.If)]
        for_types = [n for n in for_types if ast.unparse(n.test) == "TYPE_CHECKING"]
        hidden = {child for node in for_types for child in ast.walk(node)}
        nodes = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n not in hidden]
        found |= {part_of(node.module) for node in nodes if node.module.count(".")}
    assert found >= {"data", "model"}
    assert "tokenizers" not in found


def public_definitions(room):
    """The names of the public classes and functions in the modules of a room."""
    found = []
    for path in (PACKAGE / room).glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                found.append(node.name)
    return sorted(found)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_offers_its_public_names(room):
    names = importlib.import_module(f"transformer_lessons.{room}").__all__
    assert len(names) == len(set(names)) > 0
    code = f"from transformer_lessons.{room} import {', '.join(names)}"
    exec(code, {})  # as a reader would write it
    # Constants are offered too; whatever else is offered is public in one of the room's modules.
    assert {name for name in names if not name.isupper()} <= set(public_definitions(room))


def test_the_model_room_offers_all_that_is_public_in_it():
    room = importlib.import_module("transformer_lessons.model")
    assert sorted(room.__all__) == room.__all__ == public_definitions("model")


def test_importing_the_package_is_light():
    heavy = ["matplotlib", "tyro", "rich", "pyarrow", "datasets", "transformers", "pandas"]
    heavy += ["IPython", "pytest"]
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
    promised = """
        ModelConfig TrainConfig DataConfig preset Decoder count_parameters KVCache
        ByteTokenizer BPETokenizer TiktokenTokenizer load_tokenizer batches_from_text
        attend apply_rope rms_norm layer_norm swiglu
        cross_entropy linear_cross_entropy AdamW Muon cosine_schedule clip_grad_norm Trainer
        save_checkpoint load_checkpoint latest_checkpoint
        generate complete stream Sampler Conversation evaluate
        load_pretrained load_shipped save_pretrained LessonsError
    """
    assert set(promised.split()) <= set(transformer_lessons.__all__)
    assert transformer_lessons.__all__ == sorted(transformer_lessons.__all__)


@pytest.mark.parametrize("name", transformer_lessons.__all__)
def test_a_public_name_is_the_packages_own_and_documented(name):
    value = getattr(transformer_lessons, name)
    assert value.__module__.startswith("transformer_lessons.")
    assert value.__name__ == name
    assert value.__doc__


def test_the_version_is_that_of_the_distribution():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert transformer_lessons.__version__ == project["project"]["version"]


def test_the_package_is_typed_and_has_a_console_script():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert (PACKAGE / "py.typed").is_file()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["transformer_lessons"]
    module, _, function = project["project"]["scripts"]["transformer-lessons"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_console_script_is_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["transformer-lessons", "--help"])
    assert importlib.import_module("transformer_lessons.__main__").run() == 0
    assert capsys.readouterr().out.startswith("usage: ")
