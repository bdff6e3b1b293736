"""A reader edits a listing: theirs takes the package's place, and leaves it again. SPEC G1"""

import inspect
import linecache
import pickle
from collections.abc import Iterator

import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from transformer_lessons.data import cleaning
from transformer_lessons.generation import sampling
from transformer_lessons.model import attention, norm
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.support import listings

SETUP = "import math\nimport torch\nfrom torch import Tensor, nn\n"


def run_cell(namespace: dict, definition: object, old: str = "", new: str = "") -> None:
    """Run a listing cell of `definition` as IPython does, with `old` in its text made `new`."""
    text = inspect.getsource(definition)
    assert old in text
    call = f'use("{inspect.getmodule(definition).__name__}", "{definition.__name__}")'
    cell = f"{text.replace(old, new)}\n\n{call}\n"
    file = f"<cell {len(linecache.cache)}>"
    linecache.cache[file] = (len(cell), None, cell.splitlines(keepends=True), file)
    exec(compile(cell, file, "exec"), namespace)


@pytest.fixture
def cell() -> Iterator:
    """Runs listing cells in one namespace; at the end, the package is as it was."""
    namespace: dict = {"use": listings.use}
    exec(SETUP, namespace)
    edited = []

    def run(definition: object, old: str = "", new: str = "") -> object:
        edited.append(definition)
        run_cell(namespace, definition, old, new)
        return namespace[definition.__name__]

    yield run
    for definition in edited:
        run_cell(namespace, definition)


def first_logits() -> torch.Tensor:
    torch.manual_seed(0)
    return Decoder(preset("fluctlight"))(torch.tensor([[97, 98, 97]]))


def test_an_unchanged_listing_is_the_packages_object(cell, capsys):
    assert cell(attention.attend) is attention.attend
    assert capsys.readouterr().out == ""


def test_a_comment_is_no_change(cell):
    assert cell(attention.attend, "    return", "    # by hand\n    return") is attention.attend


def test_an_edited_function_is_used_by_the_model_until_it_is_undone(cell, capsys):
    before, original = first_logits(), attention.attend
    mine = cell(original, "@ v\n", "@ v * 2\n")
    assert "now uses your attend" in capsys.readouterr().out
    assert attention.attend is mine is not original
    assert not torch.equal(first_logits(), before)
    again = cell(original)
    assert "attend is the package's again" in capsys.readouterr().out
    assert again is attention.attend is original
    assert torch.equal(first_logits(), before)


def test_an_edited_class_is_used_and_pickled(cell):
    before, original = first_logits(), norm.LayerNorm
    mine = cell(original, "self.scale)", "1.0)")
    assert not torch.equal(first_logits(), before)
    assert type(pickle.loads(pickle.dumps(mine(4)))) is mine
    cell(original)
    assert torch.equal(first_logits(), before)


def test_an_edited_function_takes_its_place_in_a_tuple(cell):
    original, steps = cleaning.collapse_white_space, cleaning.STEPS
    mine = cell(original, "return ", "return 'mine' or ")
    assert mine in cleaning.STEPS
    assert original not in cleaning.STEPS
    assert cleaning.clean("a text")[0] == "mine"
    cell(original)
    assert steps == cleaning.STEPS


def test_an_edit_of_an_edit_takes_its_place(cell):
    original = attention.attend
    cell(original, "@ v\n", "@ v * 2\n")
    mine = cell(original, "@ v\n", "@ v * 3\n")
    assert attention.attend is mine


def test_an_edited_function_finds_what_its_module_imports(cell):
    mine = cell(sampling.temperature_softmax, "logits / temperature", "2 * logits / temperature")
    shares = mine(torch.tensor([1.0, 0.0]), 1.0)
    torch.testing.assert_close(shares, torch.tensor([2.0, 0.0]).softmax(-1))


def test_in_a_real_kernel():
    """IPython keeps the text of a cell where `use` looks for it."""
    text = inspect.getsource(attention.attend)
    use = '\n\nuse("transformer_lessons.model.attention", "attend")'
    setup = f"{SETUP}from transformer_lessons.model import attention\n"
    setup += "from transformer_lessons.support.listings import use\nbefore = attention.attend"
    cells = [setup, text + use, "print(attention.attend is attend is before)"]
    cells += [text.replace("@ v\n", "@ v * 2\n") + use, "print(attention.attend is attend)"]
    notebook = new_notebook(cells=[new_code_cell(source) for source in cells])
    NotebookClient(notebook, kernel_name="python3").execute()
    printed = ["".join(output.text for output in c.outputs) for c in notebook.cells]
    assert printed[:3] == ["", "", "True\n"]
    assert printed[3].startswith("The package now uses your attend")
    assert printed[4] == "True\n"
