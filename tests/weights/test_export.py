"""A model as JSON: every number can be read back bit for bit."""

import base64
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from publish import export_page_script

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.tokenizers import BPETokenizer, ByteTokenizer, TiktokenTokenizer
from transformer_lessons.weights.export import export_json, export_page_model
from transformer_lessons.weights.quantize import round_to_groups

from .json_model import load_json

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
    torch.testing.assert_close(again(tokens), model(tokens))
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
    with pytest.raises(LessonsError, match=r"can't write it: .*choose another place"):
        export_json(Decoder(CONFIG), path.parent / place)
    assert sorted(found.name for found in path.parent.iterdir()) == ["folder", "model.json"]


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
    with pytest.raises(LessonsError, match="not a model of export_json"):
        export_page_script(path, tmp_path / "weights.js", "first_model")
    assert not (tmp_path / "weights.js").exists()


# ---- A model with its tokenizer, for the page that follows a text --------------------------------


def numbers(entry) -> torch.Tensor:
    """What an entry of the file says, read as somebody else's program would."""
    kinds = {"int8": "i1", "scale": "<f4", "float32": "<f4"}
    parts = {
        name: np.frombuffer(base64.b64decode(entry[name]), kinds[name])
        for name in entry.keys() & kinds.keys()
    }
    if "float32" in parts:
        return torch.tensor(parts["float32"]).reshape(entry["shape"])
    q = torch.tensor(parts["int8"]).reshape(entry["shape"])
    return q * torch.tensor(parts["scale"])[:, None]


@pytest.mark.parametrize("config", [TIED, replace(TIED, ffn="swiglu", position="learned")])
def test_a_page_model_holds_what_int8_leaves_of_it(path, random_model, config):
    config = replace(config, vocab_size=300)
    model, tokenizer = (
        random_model(config).float(),
        BPETokenizer.train("ab abc " * 9, 262, ["<|e|>"]),
    )
    export_page_model(model.bfloat16(), tokenizer, path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["format"] == "transformer_lessons/page-1"
    assert ModelConfig.from_dict(document["config"]) == config
    (path.parent / "tokenizer.json").write_text(json.dumps(document["tokenizer"]))
    again = BPETokenizer.load(path.parent / "tokenizer.json")
    assert again.encode("abc<|e|>", "all") == tokenizer.encode("abc<|e|>", "all")
    expected = dict(model.named_parameters())  # a tied head is not written again
    assert document["weights"].keys() == expected.keys()
    for name, parameter in expected.items():
        found, weight = numbers(document["weights"][name]), parameter.detach().float()
        if weight.ndim == 2:
            rows = round_to_groups(weight, 8, weight.shape[1], True, torch.float32)
            weight = (rows.q.float() - 127) * rows.scale
        assert torch.equal(found, weight), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_placement": "post"}, r"the page can't run norm_placement = 'post' \(ModelConfig\)"),
        ({"rope_scaling": RopeScaling("linear", 2.0)}, "the page can't run rope_scaling = "),
    ],
)
def test_what_the_page_cant_run_is_not_written(path, changes, message):
    model = Decoder(replace(CONFIG, vocab_size=256, **changes))
    with pytest.raises(LessonsError, match=message):
        export_page_model(model, ByteTokenizer(), path)
    assert not path.exists()


def test_a_tokenizer_that_does_not_fit_is_refused(path):
    with pytest.raises(LessonsError, match=r"256 tokens, but the model has 7 \(tokenizer\)"):
        export_page_model(Decoder(CONFIG), ByteTokenizer(), path)
    with pytest.raises(LessonsError, match=r"the page has no TiktokenTokenizer .*BPETokenizer"):
        export_page_model(Decoder(CONFIG), TiktokenTokenizer("gpt2"), path)
    assert not path.exists()


@pytest.mark.parametrize("name", ["head.weight", "head.bias"])
def test_a_page_model_has_finite_numbers(path, name):
    model = Decoder(replace(CONFIG, vocab_size=256))
    torch.nn.init.constant_(model.get_parameter(name), float("nan"))
    with pytest.raises(LessonsError, match=f"it holds inf or nan \\(tensor '{name}'\\)"):
        export_page_model(model, ByteTokenizer(), path)
    assert not path.exists()


def test_the_page_script_may_hold_a_page_model(path, tmp_path):
    export_page_model(Decoder(replace(CONFIG, vocab_size=256)), ByteTokenizer(), path)
    export_page_script(path, tmp_path / "weights.js", "python_small")
    text = (tmp_path / "weights.js").read_text(encoding="utf-8")
    assert text.startswith('TransformerLessons.weights["python_small"] = {"format": ')
