"""The choices of a run: every impossible value is named."""

import json
import math
from dataclasses import fields

import pytest

from transformer_lessons.errors import LessonsError
from transformer_lessons.training.config import TrainConfig, train_preset

WRONG = {
    "1 or more": (0, -1, 1.5, "4", None, True),
    "0 or more": (-1, 1.0, "4", None, False),
    "above 0": (0, -1e-3, math.nan, math.inf, "1", None, True),
    "not negative": (-1e-9, math.nan, math.inf, "1", None, True),
    "below 1": (-1e-9, 1, 1.0, math.nan, "1", None, True),
    "a seed": (-1, 2**63, 1.0, "4", None, False),
    "a word": ("", "Cosine", "adam", "fp8", None, 1, ["bf16"]),
    "a switch": (0, 1, "true", None),
    "rows": (0, -3, 1.5, "4", True),
}
FIELDS = {
    "1 or more": ("steps", "batch_size", "grad_accum_steps", "keep"),
    "0 or more": ("warmup_steps", "eval_every", "patience", "save_every"),
    "above 0": ("learning_rate", "max_grad_norm"),
    "not negative": ("min_learning_rate", "weight_decay"),
    "below 1": ("beta1", "beta2"),
    "a seed": ("seed",),
    "a word": ("schedule", "optimizer", "precision"),
    "a switch": ("compile", "fused"),
    "rows": ("loss_chunk_size", "sequence_length"),
}
BAD = [(name, value) for kind in FIELDS for name in FIELDS[kind] for value in WRONG[kind]]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_named(name, value):  # SPEC S7
    with pytest.raises(LessonsError) as caught:
        TrainConfig(**{name: value})
    assert caught.value.where == f"TrainConfig.{name}"
    assert caught.value.what.startswith(f"{name} = {value!r} is not ")


def test_every_field_is_in_the_list_above():  # SPEC S7
    assert {field.name for field in fields(TrainConfig)} == {name for name, _ in BAD}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("steps", 1), ("batch_size", 1), ("warmup_steps", 0), ("seed", 0), ("seed", 2**63 - 1)],
        *[("min_learning_rate", 0), ("weight_decay", 0.0), ("learning_rate", 0.0005)],
        *[
            ("beta1", 0),
            ("beta2", 0.999999),
            ("loss_chunk_size", 1),
            ("loss_chunk_size", None),
            ("keep", 1),
        ],
        *[("schedule", "wsd"), ("optimizer", "muon"), ("precision", "fp16"), ("compile", True)],
    ],
)
def test_the_ends_of_each_range_are_allowed(name, value):  # SPEC S7
    assert getattr(TrainConfig(**{name: value}), name) == value


def test_the_smallest_rate_is_not_above_the_largest():  # SPEC S7
    """The schedules would climb where they should fall."""
    assert TrainConfig(learning_rate=0.01, min_learning_rate=0.01).min_learning_rate == 0.01
    with pytest.raises(LessonsError) as caught:
        TrainConfig(learning_rate=0.01, min_learning_rate=0.011)
    assert caught.value.where == "TrainConfig.min_learning_rate"
    assert caught.value.what == "min_learning_rate = 0.011 is above learning_rate = 0.01"


def test_json_and_back():  # SPEC A4
    values = {
        **{
            "steps": 7,
            "sequence_length": 5,
            "batch_size": 3,
            "grad_accum_steps": 2,
            "learning_rate": 0.1,
        },
        **{"min_learning_rate": 0.01, "warmup_steps": 2, "schedule": "wsd", "optimizer": "muon"},
        **{"beta1": 0.5, "beta2": 0.6, "weight_decay": 0.3, "max_grad_norm": 0.4},
        **{"precision": "bf16", "compile": True, "fused": True, "loss_chunk_size": 9},
        **{"eval_every": 5, "patience": 6, "save_every": 7, "keep": 8, "seed": 9},
    }
    assert set(values) == {field.name for field in fields(TrainConfig)}
    config = TrainConfig.from_dict(json.loads(json.dumps(values)))
    assert config.to_dict() == values
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert not set(values.items()) & set(TrainConfig().to_dict().items())  # none is the default


def test_an_unknown_key_is_refused_by_name():  # SPEC A4
    with pytest.raises(LessonsError, match=r"unknown key 'lr' \(x\.json\)\. Known keys: steps, "):
        TrainConfig.from_dict({"lr": 0.1}, where="x.json")


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(LessonsError, match=r"unknown preset 'x'\. Known presets: bytes-1m, fluct"):
        train_preset("x")
