"""A model's config: every impossible value is named; nothing is lost on the way through JSON."""

import json
import math
import re
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.presets import preset
from transformer_lessons.support.files import read_json

GOOD = {
    "vocab_size": 10,
    "context_length": 8,
    "d_model": 12,
    "n_layers": 2,
    "n_heads": 3,
    "d_ff": 20,
    "n_kv_heads": 1,
    "head_dim": 6,
    "position": "rope",
    "rope_theta": 500.0,
    "rope_scaling": RopeScaling("yarn", factor=4.0, original_context_length=8),
    "rope_v_scale": 0.25,
    "norm": "rms",
    "norm_eps": 1e-6,
    "norm_placement": "post",
    "adaptive_norm": True,
    "ffn": "swiglu",
    "bias": False,
    "qkv_bias": True,
    "head_bias": False,
    "qk_norm": True,
    "tie_embeddings": True,
    "scale_embeddings": True,
    "sliding_window": 3,
    "dropout": 0.1,
}
SIZES = ["vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff"]
BAD = [(name, value) for name in SIZES for value in (0, -1, 1.5, 4.0, "4", None, True, math.nan)]
BAD += [
    ("rope_theta", value) for value in (1, 0.5, 10**400, -3.0, math.inf, math.nan, "10", None, True)
]
BAD += [("rope_v_scale", value) for value in (-0.1, 1.1, math.nan, math.inf, "1", None, True)]
BAD += [("norm_eps", value) for value in (0, -1e-5, 0.11, math.nan, math.inf, "x", None, True)]
OPTIONAL_SIZES = ["n_kv_heads", "head_dim", "sliding_window"]
BAD += [(name, value) for name in OPTIONAL_SIZES for value in (0, -1, 1.5, 4.0, "4", True, False)]
CHOICES = {
    "position": ["rope", "learned", "sinusoidal", "none"],
    "norm": ["layer", "rms"],
    "norm_placement": ["pre", "post"],
    "ffn": ["relu", "gelu", "swiglu"],
}
BAD += [(name, value) for name in CHOICES for value in ("", "Rope", "batch", None, 1, True, [])]
SWITCHES = ["adaptive_norm", "bias", "head_bias", "qk_norm", "tie_embeddings", "scale_embeddings"]
BAD += [(name, value) for name in SWITCHES for value in (0, 1, 0.0, "true", None)]
BAD += [("qkv_bias", value) for value in (0, 1, 0.0, "true")]
BAD += [("rope_scaling", value) for value in (2.0, "yarn", True, {"kind": "linear", "factor": 2.0})]
BAD += [("dropout", value) for value in (-0.1, 1, 1.0, math.nan, "0", None, False)]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_named(name, value):  # SPEC S7
    with pytest.raises(LessonsError) as caught:
        ModelConfig(**{**GOOD, name: value})
    assert caught.value.where == f"ModelConfig.{name}"
    assert str(caught.value).startswith(f"{name} = {value!r} is not ")


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("n_layers", "an integer of at least 1"),
        ("rope_theta", "above 1, and finite"),
        ("rope_v_scale", "from 0 to 1"),
        ("norm_eps", "above 0, at most 0.1"),
        ("adaptive_norm", "true or false"),
        ("qkv_bias", "null, true or false"),
        ("sliding_window", "null or an integer of at least 1"),
        ("position", "one of rope, learned, sinusoidal, none"),
        ("ffn", "one of relu, gelu, swiglu"),
        ("dropout", "from 0 to below 1"),
    ],
)
def test_the_message_gives_the_range(name, allowed):  # SPEC S7
    with pytest.raises(LessonsError) as caught:
        ModelConfig(**{**GOOD, name: "?"})
    assert caught.value.what == f"{name} = '?' is not {allowed}"


def test_every_field_is_in_the_lists_above():  # SPEC S7
    names = {field.name for field in fields(ModelConfig)}
    assert names == set(GOOD) == {name for name, _ in BAD}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, 6 if name == "d_model" else 1) for name in SIZES],
        *[("rope_theta", 1.001), ("rope_theta", 10_000), ("rope_v_scale", 0), ("rope_v_scale", 1)],
        *[("norm_eps", 0.1), ("norm_eps", 1e-12), ("dropout", 0), ("dropout", 0.999)],
        *[("n_kv_heads", None), ("n_kv_heads", 3), ("head_dim", None), ("head_dim", 2)],
        *[("sliding_window", None), ("sliding_window", 1), ("qkv_bias", None)],
        ("rope_scaling", None),
        *[(name, value) for name in SWITCHES for value in (True, False)],
    ],
)
def test_the_ends_of_each_range_are_allowed(name, value):  # SPEC S7
    assert getattr(ModelConfig(**{**GOOD, name: value}), name) == value


@pytest.mark.parametrize(("d_model", "n_heads"), [(4, 3), (6, 2), (3, 1), (10, 4), (2, 2)])
def test_heads_must_have_an_even_width(d_model, n_heads):  # SPEC S7
    sizes = {"d_model": d_model, "n_heads": n_heads, "head_dim": None}
    with pytest.raises(LessonsError, match=rf"d_model = {d_model} can't be cut into {n_heads} "):
        ModelConfig(**{**GOOD, **sizes})


PLAIN = {**GOOD, "rope_scaling": None, "rope_v_scale": 0.0, "head_dim": None, "n_kv_heads": None}


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"head_dim": 5}, "head_dim", "head_dim = 5 is odd"),
        ({"n_kv_heads": 2}, "n_kv_heads", "3 query heads can't share 2 key and value heads evenly"),
        ({"n_kv_heads": 6}, "n_kv_heads", "3 query heads can't share 6 key and value heads evenly"),
        ({"position": "none", "n_heads": 5}, "d_model", "d_model = 12 can't be cut into 5 heads"),
        ({"position": "sinusoidal", "d_model": 9}, "d_model", "d_model = 9 is odd"),
        ({"position": "none", "rope_v_scale": 0.5}, "rope_v_scale", "needs position = 'rope'"),
        (
            {"position": "learned", "rope_scaling": RopeScaling("linear", 2.0)},
            "rope_scaling",
            "needs position = 'rope', not 'learned'",
        ),
        (
            {"rope_scaling": RopeScaling("dynamic", 2.0, 8), "head_dim": 2},
            "rope_scaling",
            "dynamic scaling of heads of width 2",
        ),
    ],
)
def test_values_that_do_not_fit_together_are_named(changes, field, message):  # SPEC S7
    ModelConfig(**PLAIN)
    with pytest.raises(LessonsError, match=re.escape(message)) as caught:
        ModelConfig(**{**PLAIN, **changes})
    assert caught.value.where == f"ModelConfig.{field}"


def test_without_rope_heads_may_have_an_odd_width():
    assert ModelConfig(**{**PLAIN, "position": "none", "d_model": 9}).heads.head_dim == 3
    assert ModelConfig(**{**PLAIN, "position": "learned", "head_dim": 5}).heads.head_dim == 5


SCALING = {"kind": "yarn", "factor": 4.0, "original_context_length": 8, "beta_fast": 9.0}


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        *[("kind", value, "one of linear, dynamic, llama3, yarn") for value in ("ntk", None, 1)],
        *[("factor", value, "1 or more, and finite") for value in (0.9, math.inf, "2", True)],
        *[("original_context_length", value, "null or an integer of at") for value in (0, 2.0)],
        *[("beta_slow", value, "above 0, and finite") for value in (0, -1, math.inf, None)],
        *[("beta_fast", value, "above beta_slow = 1.0") for value in (1.0, 0.5)],
        *[("beta_fast", value, "null or above 0, and finite") for value in (math.inf, "4")],
        *[("attention_factor", value, "null or above 0, and") for value in (0, -1.0, math.nan)],
    ],
)
def test_a_bad_rope_scaling_is_named(field, value, allowed):  # SPEC S7
    with pytest.raises(LessonsError) as caught:
        RopeScaling(**{**SCALING, field: value})
    assert caught.value.where == f"RopeScaling.{field}"
    assert caught.value.what.startswith(f"{field} = {value!r} is not {allowed}")


def test_only_linear_scaling_needs_no_trained_length():
    assert RopeScaling("linear", 2.0).original_context_length is None
    for kind in ("dynamic", "llama3", "yarn"):
        with pytest.raises(LessonsError, match=f"{kind} scaling needs original_context_length"):
            RopeScaling(kind, 2.0)
        assert RopeScaling(kind, 2.0, 8).trained_length == 8


def test_derived_values_follow_the_fields():
    config = ModelConfig(**PLAIN)
    assert config.heads.head_dim == 4
    assert replace(config, n_heads=2).heads.head_dim == 6
    assert replace(config, d_model=24).heads.head_dim == 8
    assert replace(config, head_dim=10).heads.head_dim == 10
    assert config.heads.head_dim == 4  # the original is as it was
    assert config.heads.n_kv_heads == 3
    assert replace(config, n_kv_heads=1).heads.n_kv_heads == 1
    with pytest.raises(LessonsError, match="d_model = 7 "):
        replace(config, d_model=7)


@pytest.mark.parametrize(
    ("d_model", "scale"), [(2, 0), (4, 0), (6, 2 / 28), (18, 0.5), (30, 26 / 28), (32, 1), (64, 1)]
)
def test_size_scale(d_model, scale):  # SPEC F3, F4
    config = ModelConfig(**{**PLAIN, "d_model": d_model, "n_heads": 1})
    assert config.size_scale == pytest.approx(scale, abs=1e-15)


def test_a_config_is_frozen():
    with pytest.raises(FrozenInstanceError):
        ModelConfig(**GOOD).d_model = 8


def test_json_and_back():  # SPEC A4
    config = ModelConfig(**GOOD)
    assert config.to_dict() == {**GOOD, "rope_scaling": asdict(GOOD["rope_scaling"])}
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_key_is_refused_by_name():  # SPEC A4
    with pytest.raises(LessonsError) as caught:
        ModelConfig.from_dict({**GOOD, "d_modle": 4}, where="my.json")
    assert str(caught.value).startswith("unknown key 'd_modle' (my.json). Known keys: vocab_size, ")


def test_a_nested_config_is_as_strict():  # SPEC A4
    values = ModelConfig(**GOOD).to_dict()
    wrong = {**values, "rope_scaling": {**values["rope_scaling"], "beta": 1}}
    with pytest.raises(LessonsError, match=r"unknown key 'beta' \(my\.json, rope_scaling\)"):
        ModelConfig.from_dict(wrong, where="my.json")
    wrong = {**values, "rope_scaling": {**values["rope_scaling"], "factor": 0.5}}
    with pytest.raises(LessonsError) as caught:
        ModelConfig.from_dict(wrong, where="my.json")
    assert caught.value.where == "my.json, rope_scaling, RopeScaling.factor"
    with pytest.raises(LessonsError, match=r"missing .*'factor' \(my\.json, rope_scaling\)"):
        ModelConfig.from_dict({**values, "rope_scaling": {"kind": "linear"}}, where="my.json")


def test_a_missing_key_is_named():
    for name in SIZES:
        values = {key: value for key, value in GOOD.items() if key != name}
        with pytest.raises(LessonsError, match=rf"missing .*'{name}' \(my\.json\)"):
            ModelConfig.from_dict(values, where="my.json")


def test_a_bad_value_from_a_file_names_the_file_too():  # SPEC S7
    with pytest.raises(LessonsError) as caught:
        ModelConfig.from_dict({**GOOD, "d_ff": 0}, where="my.json")
    assert caught.value.where == "my.json, ModelConfig.d_ff"
    with pytest.raises(LessonsError) as caught:
        ModelConfig.from_dict({**GOOD, "d_ff": 0})
    assert caught.value.where == "ModelConfig.d_ff"


@pytest.mark.parametrize("values", [[], None, "{}", 3])
def test_a_config_is_an_object(values):
    with pytest.raises(LessonsError, match=r"must be a JSON object \(my\.json\)"):
        ModelConfig.from_dict(values, where="my.json")


def test_fluctlight_is_as_published():  # SPEC F1, F3
    config = preset("fluctlight")
    sizes = [getattr(config, name) for name in SIZES]
    assert sizes == [256, 16, 4, 2, 2, 8]
    assert config.heads.head_dim == 2
    assert config.adaptive_norm is True
    assert (config.rope_v_scale, config.dropout) == (0.0, 0.0)


@pytest.mark.parametrize("name", ["", "Fluctlight", "gpt-5"])
def test_an_unknown_preset_names_the_known_ones(name):
    with pytest.raises(LessonsError) as caught:
        preset(name)
    assert caught.value.what == f"unknown preset {name!r}"
    assert "fluctlight, bytes-1m, python-small, llama, gpt, gpt2" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b": }', r"not JSON: Expecting value \(.*x\.json, line 2, column 7\)"),
        (b"", r"not JSON: Expecting value \(.*x\.json, line 1, column 1\)"),
        (b'"\xff"', r"not UTF-8: byte 1 \(.*x\.json\)"),
        (b"[" * 100_000, r"not JSON that can be read: .*x\.json"),
        (b"1" * 10_000, r"not JSON that can be read: .*x\.json"),
    ],
)
def test_a_malformed_json_file_is_named(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(LessonsError, match=message):
        read_json(path)


def test_a_missing_json_file_is_named(tmp_path):
    with pytest.raises(LessonsError, match=r"can't read it: No such file.*absent\.json"):
        read_json(tmp_path / "absent.json")


def test_read_json_reads(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"é": [1, 2.5, null]}', encoding="utf-8")
    assert read_json(path) == {"é": [1, 2.5, None]}
