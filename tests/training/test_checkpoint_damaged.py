"""A checkpoint that is damaged, or not one, is refused by name; no code in it is ever run."""

import json
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def saved(tmp_path):
    """A run folder with one checkpoint, step 5."""
    return save_checkpoint(tmp_path, 5, Decoder(preset("fluctlight")))


def change_tensors(saved, change):
    tensors = load_file(saved / "model.safetensors")
    change(tensors)
    save_file(tensors, saved / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("blocks.1.attention.out.bias"),
            "'blocks.1.attention.out.bias' is missing",
        ),
        (lambda t: t.update(extra=torch.zeros(1)), "'extra' is not part of this model"),
        (
            lambda t: t.update({"head.weight": torch.zeros(4, 256)}),
            r"'head.weight' is \(4, 256\), not \(256, 4\)",
        ),
        (
            lambda t: t.update({"head.bias": torch.zeros(1)}),
            r"'head.bias' is \(1,\), not \(256,\)",
        ),
    ],
)
def test_tensors_must_fit_exactly(saved, change, message):
    change_tensors(saved, change)
    with pytest.raises(LessonsError, match=rf"^tensor {message} \(.*model\.safetensors\)"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "has the keys format, step and model"),
        ({"step": None}, "step = None is not a step number"),
        ({"step": -1}, "step = -1 is not a step number"),
        ({"step": True}, "step = True is not a step number"),
        ({"format": 2}, "format 2 is not 1"),
        ({"model": []}, "must be a JSON object"),
        ({"model": {"d_model": 4}}, "missing 5 required"),
        ({"model": {**preset("fluctlight").to_dict(), "d_model": 0}}, "d_model = 0 is not"),
        ({"model": {**preset("fluctlight").to_dict(), "layers": 2}}, "unknown key 'layers'"),
    ],
)
def test_the_json_must_fit_exactly(saved, change, message):
    path = saved / "checkpoint.json"
    about = {**json.loads(path.read_text(encoding="utf-8")), **change}
    path.write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(LessonsError, match=message):
        load_checkpoint(saved)


@pytest.mark.parametrize("key", ["format", "step", "model"])
def test_a_missing_key_is_refused(saved, key):
    path = saved / "checkpoint.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    del about[key]
    path.write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(LessonsError, match=r"has the keys .*checkpoint\.json"):
        load_checkpoint(saved)


@pytest.mark.parametrize("content", [b"", b"\x08", b"[]", b"{", b"\xff\xfe"])
def test_a_broken_json_file_is_named(saved, content):
    (saved / "checkpoint.json").write_bytes(content)
    with pytest.raises(LessonsError, match=r"checkpoint\.json"):
        load_checkpoint(saved)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_file_is_named(saved, share):
    path = saved / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(LessonsError, match=r"^not a readable safetensors file: .*model\.safeten"):
        load_checkpoint(saved)


def test_a_missing_tensor_file_is_named(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(LessonsError, match=r"^not a readable safetensors file: .*model\.safeten"):
        load_checkpoint(saved)


class Touch:
    """Unpickling this creates a file: what a malicious checkpoint would do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_in_place_of_the_tensors_is_refused_and_not_run(saved, tmp_path):  # SPEC S2
    mark = tmp_path / "code-ran"
    (saved / "model.safetensors").write_bytes(pickle.dumps(Touch(mark)))
    with pytest.raises(LessonsError, match="not a readable safetensors file"):
        load_checkpoint(saved)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Touch(mark)))  # it would have
    assert mark.exists()


def outcome_of_loading(path):
    """ "loaded", or where the error is; any other exception is a failure of the test."""
    try:
        return "loaded" if isinstance(load_checkpoint(path).model, Decoder) else "?"
    except LessonsError as error:
        return error.where


def test_a_mutated_checkpoint_loads_or_is_refused(saved):  # SPEC S9
    dice, outcomes = random.Random(0), []
    files = {name: (saved / name).read_bytes() for name in ("checkpoint.json", "model.safetensors")}
    for _ in range(300):
        name = dice.choice(list(files))
        data = bytearray(files[name])
        for _ in range(dice.randint(1, 3)):  # in the JSON, or in the header of the tensors
            data[dice.randrange(min(len(data), 4_000))] = dice.choice(b'"{}[]:,019.eaN \x00\xff')
        (saved / name).write_bytes(data)
        outcomes.append(outcome_of_loading(saved))
        assert outcomes[-1] == "loaded" or outcomes[-1].startswith(str(saved / name))
        (saved / name).write_bytes(files[name])
    assert 5 < outcomes.count("loaded") < 295  # both ends were reached
