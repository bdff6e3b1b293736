"""Folders of `torch.distributed.checkpoint`: the weights come, and nothing in them is run."""

import os
import pickle
import random
from dataclasses import replace

import pytest
import torch
from torch.distributed import checkpoint

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.training.rank_trainer import load_distributed

CONFIG = preset("fluctlight")


@pytest.fixture
def written(tmp_path):
    """A model, and the folder that PyTorch has written of it and of more."""
    torch.manual_seed(0)
    model, folder = Decoder(CONFIG), tmp_path / "run"
    state = {"model": model.state_dict(), "step": 3, "optimizer": {"lr": 0.1}}
    with pytest.warns(UserWarning, match="single process"):
        checkpoint.save(state, checkpoint_id=folder, no_dist=True)
    return model, folder


def test_the_weights_are_those_that_were_written(written):  # SPEC S8
    model, folder = written
    other = Decoder(CONFIG)
    load_distributed(folder, other)
    torch.testing.assert_close(other.state_dict(), model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("model", "prefix", "message"),
    [
        (CONFIG, "x.", r"^can't load it: .*Missing key .* x\."),
        (replace(CONFIG, d_ff=12), "model.", r"^can't load it: .*Size mismatch .* model\.blocks"),
    ],
)
def test_what_does_not_fit_is_named(written, model, prefix, message):  # SPEC S9
    with pytest.raises(LessonsError, match=message):
        load_distributed(written[1], Decoder(model), prefix)


class Call:
    """What a hostile file may hold: a call of anything, made when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("call", [Call(os.mkdir, "here"), Call(eval, "1")])
def test_nothing_in_the_table_is_called(written, tmp_path, monkeypatch, call):  # SPEC S2
    monkeypatch.chdir(tmp_path)
    path = written[1] / ".metadata"
    table = pickle.loads(path.read_bytes())
    table.planner_data = call
    path.write_bytes(pickle.dumps(table))
    with pytest.raises(LessonsError, match=r"^it would call \w+\.\w+ \(\.metadata\)"):
        load_distributed(written[1], Decoder(CONFIG))
    assert not (tmp_path / "here").exists()


def test_no_other_folder_is_read(written):  # SPEC S9
    model, folder = written
    table = pickle.loads((folder / ".metadata").read_bytes())
    for part in table.storage_data.values():
        part.relative_path = f"../run/{part.relative_path}"
    (folder / ".metadata").write_bytes(pickle.dumps(table))
    with pytest.raises(LessonsError, match="is not the name of a file in the folder"):
        load_distributed(folder, model)


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps([1]), None])
def test_a_folder_of_something_else_is_named(tmp_path, data):  # SPEC S9
    if data is not None:
        (tmp_path / ".metadata").write_bytes(data)
    with pytest.raises(LessonsError, match=r"not a table of|there is no file"):
        load_distributed(tmp_path, Decoder(CONFIG))


def test_changed_bytes_of_the_table_are_a_lessons_error_or_a_model(written):  # SPEC S9
    model, folder = written
    whole, dice = (folder / ".metadata").read_bytes(), random.Random(0)
    n_refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(dice.choice([1, 1, 2, 5])):
            data[dice.randrange(len(data))] = dice.randrange(256)
        (folder / ".metadata").write_bytes(data)
        try:
            load_distributed(folder, model)
        except LessonsError:
            n_refused += 1
    assert n_refused > 100
