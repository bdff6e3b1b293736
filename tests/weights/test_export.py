"""A model as JSON: it comes back bit for bit, and a file that doesn't fit is refused by name."""

import json
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from publish import export_page_script

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.weights.export import export_json, load_json

CONFIG = ModelConfig(7, 5, d_model=4, n_layers=2, n_heads=1, d_ff=3, rope_v_scale=0.25)
TIED = ModelConfig(7, 5, d_model=4, n_layers=1, n_heads=2, d_ff=3, tie_embeddings=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.json"


def bits(tensor: torch.Tensor) -> list[int]:
    return tensor.detach().view(torch.int32).flatten().tolist()


@pytest.mark.parametrize("config", [CONFIG, TIED, preset("fluctlight")])
def test_everything_comes_back_bit_for_bit(path, random_model, config):
    model = random_model(config).float()
    export_json(model, path)
    again = load_json(path)
    assert again.config == config
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert bits(again.state_dict()[name]) == bits(tensor), name
    tokens = torch.arange(5)[None]
    torch.testing.assert_close(again(tokens), model(tokens))  # by another kernel
    assert all(parameter.requires_grad for parameter in again.parameters())


@given(st.lists(st.integers(0, 2**32 - 1), min_size=7, max_size=7))
def test_every_float32_comes_back_bit_for_bit(tmp_path_factory, patterns):
    path = tmp_path_factory.getbasetemp() / "float32.json"
    signed = torch.tensor([p - 2**32 if p >= 2**31 else p for p in patterns], dtype=torch.int32)
    numbers = signed.view(torch.float32)
    numbers[~numbers.isfinite()] = torch.finfo(torch.float32).max
    model = Decoder(CONFIG)
    with torch.no_grad():
        model.head.bias.copy_(numbers)
    export_json(model, path)
    assert bits(load_json(path).head.bias) == bits(numbers)


def test_the_file_is_plain_json_with_short_numbers(path):
    model = Decoder(CONFIG)
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([0.1, -0.0, 1e-45, 1 / 3, 2.0, 3.4028235e38, 1e-8]))
    export_json(model, path)
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    assert list(document) == ["format", "config", "weights"]
    assert document["format"] == "transformer_lessons/1"
    assert document["config"] == CONFIG.to_dict()
    assert document["weights"]["head.weight"]["shape"] == [7, 4]
    assert '"shape": [7], "data": [0.1, -0.0, 1e-45, 0.33333334, 2.0, 3.4028235e+38, 1e-08]' in text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_not_written(path, number):
    model = Decoder(CONFIG)
    with torch.no_grad():
        model.blocks[1].feedforward.up.bias[2] = number
    with pytest.raises(LessonsError, match=r"inf or nan \(tensor 'blocks.1.feedforward.up.bias'\)"):
        export_json(model, path)
    assert not path.exists()


def test_only_float32_is_written(path):
    with pytest.raises(LessonsError, match=r"torch.float64 is not float32 .*model.float\(\)"):
        export_json(Decoder(CONFIG).double(), path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    model = Decoder(CONFIG)
    export_json(model, path)
    before = path.read_bytes()

    def full_disk(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(LessonsError, match=r"can't write it: No space left on device \(.*\.json\)"):
        export_json(model, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("place", ["missing/model.json", "model.json/below.json", "folder"])
def test_a_place_that_cant_be_written_is_named(path, place):
    path.write_text("a file\n", encoding="utf-8")
    (path.parent / "folder").mkdir()
    with pytest.raises(LessonsError, match=r"can't write it: .*Choose another place"):
        export_json(Decoder(CONFIG), path.parent / place)
    assert sorted(found.name for found in path.parent.iterdir()) == ["folder", "model.json"]


def without(tree: dict, *keys: str) -> None:
    *parents, last = keys
    for key in parents:
        tree = tree[key]
    del tree[last]


def put(tree: dict, value, *keys: str) -> None:
    *parents, last = keys
    for key in parents:
        tree = tree[key]
    tree[last] = value


NORM, BIAS = ("weights", "final_norm.weight"), ("weights", "head.bias")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: without(t, "format"), "not a model with format, config and weights"),
        (lambda t: put(t, 1, "extra"), "not a model with format, config and weights"),
        (lambda t: put(t, "transformer_lessons/2", "format"), "format 'transformer_lessons/2'"),
        (lambda t: put(t, [], "config"), "a config must be a JSON object"),
        (lambda t: put(t, 1, "config", "colour"), "unknown key 'colour'"),
        (lambda t: without(t, "config", "d_ff"), "'d_ff'"),
        (lambda t: put(t, 0, "config", "d_ff"), r"d_ff = 0 is not .*ModelConfig.d_ff"),
        (lambda t: put(t, 10**12, "config", "d_ff"), "the configuration means 1[0-9,]+ numbers"),
        (lambda t: put(t, 10**9, "config", "n_layers"), "has 1,000,000,000 blocks"),
        (lambda t: put(t, 3, "config", "n_layers"), "'blocks.2.* is missing"),
        (lambda t: put(t, 1, "config", "n_layers"), "'blocks.1.* is not part of this model"),
        (lambda t: put(t, [], "weights"), "weights is not an object"),
        (lambda t: without(t, *NORM), "tensor 'final_norm.weight' is missing"),
        (lambda t: put(t, t["weights"]["head.bias"], "weights", "x"), "'x' is not part of this"),
        (lambda t: put(t, [1, 2], *NORM), r"a tensor has shape and data .*'final_norm.weight'"),
        (lambda t: put(t, 1, *NORM, "dtype"), r"a tensor has shape and data .*final_norm"),
        (lambda t: put(t, [2, 2], *NORM, "shape"), r"'final_norm.weight' is \(2, 2\) and"),
        (lambda t: put(t, [True], *BIAS, "shape"), r"shape = \[True\] is not a list of sizes"),
        (lambda t: put(t, [-7], *BIAS, "shape"), r"shape = \[-7\] is not a list of sizes"),
        (lambda t: put(t, 7, *BIAS, "shape"), "shape = 7 is not a list of sizes"),
        (lambda t: put(t, [1.0] * 6, *BIAS, "data"), "the 7 numbers of its shape .*'head.bias'"),
        (lambda t: put(t, "1234567", *BIAS, "data"), "the 7 numbers of its shape .*'head.bias'"),
        (lambda t: put(t, [0] * 6 + [True], *BIAS, "data"), r"True is not .*head.bias', data\[6\]"),
        (lambda t: put(t, [None] * 7, *BIAS, "data"), r"None is not a number .*data\[0\]"),
        (lambda t: put(t, [0, 3.5e38] * 3 + [0], *BIAS, "data"), r"3.5e\+38 is not .*data\[1\]"),
        (lambda t: put(t, [-(10**400)] * 7, *BIAS, "data"), r"-1000.* is not a number .*data\[0\]"),
        (lambda t: put(t, [float("nan")] * 7, *BIAS, "data"), "nan is not a number that float32"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(path, change, message):
    export_json(Decoder(CONFIG), path)
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(LessonsError, match=message) as caught:
        load_json(path)
    assert str(path) in caught.value.where


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "not JSON"), ("[1]", "not a model with format"), ("[" * 100_000, "not JSON")],
)
def test_a_file_that_is_no_model_is_refused(path, text, message):
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LessonsError, match=message):
        load_json(path)


def test_a_missing_file_is_named(path):
    with pytest.raises(LessonsError, match="can't read it"):
        load_json(path)


def test_whole_numbers_may_be_written_as_integers(path):
    export_json(Decoder(CONFIG), path)
    document = json.loads(path.read_text(encoding="utf-8"))
    put(document, [0, 1, -2, 3, 2**64, -(10**30), 5], *BIAS, "data")
    path.write_text(json.dumps(document), encoding="utf-8")
    expected = torch.tensor([0, 1, -2, 3, 2.0**64, -1e30, 5])
    assert torch.equal(load_json(path).head.bias, expected)


def test_loading_draws_no_random_number(path):
    export_json(Decoder(CONFIG), path)
    before = torch.random.get_rng_state()
    load_json(path)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_page_script_holds_the_model(path, tmp_path):  # SPEC G6
    export_json(Decoder(CONFIG), path)
    script = tmp_path / "weights.js"
    export_page_script(path, script, "first_model")
    text = script.read_text(encoding="utf-8")
    start = 'TransformerLessons.weights["first_model"] = '
    assert text.startswith(start)
    assert text.endswith(";\n")
    assert json.loads(text[len(start) : -2]) == json.loads(path.read_text(encoding="utf-8"))


def test_a_damaged_model_does_not_become_a_page_script(path, tmp_path):
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(LessonsError, match="not a model with format"):
        export_page_script(path, tmp_path / "weights.js", "first_model")
    assert not (tmp_path / "weights.js").exists()
