"""The choices of a run: every impossible value is named."""

import json
import math
from dataclasses import fields

import pytest

from transformer_lessons.errors import LessonsError
from transformer_lessons.training.config import TrainConfig, train_preset

BAD = [(name, value) for name in ("steps", "batch_size") for value in (0, -1, 1.5, "4", None, True)]
BAD += [(name, value) for name in ("warmup_steps", "seed") for value in (-1, 1.0, "4", None, False)]
BAD += [
    (name, value)
    for name in ("learning_rate", "clip_norm")
    for value in (0, -1e-3, math.nan, math.inf, "1", None, True)
]
BAD += [
    (name, value)
    for name in ("min_learning_rate", "weight_decay")
    for value in (-1e-9, math.nan, math.inf, "1", None, True)
]


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
        *[("steps", 1), ("batch_size", 1), ("warmup_steps", 0), ("seed", 0)],
        *[("min_learning_rate", 0), ("weight_decay", 0.0), ("learning_rate", 1e-9)],
    ],
)
def test_the_ends_of_each_range_are_allowed(name, value):  # SPEC S7
    assert getattr(TrainConfig(**{name: value}), name) == value


def test_json_and_back():  # SPEC A4
    config = TrainConfig(7, 3, 0.1, 0.01, 2, 0.3, 0.4, 5)
    assert list(config.to_dict().values()) == [7, 3, 0.1, 0.01, 2, 0.3, 0.4, 5]
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_key_is_refused_by_name():  # SPEC A4
    with pytest.raises(LessonsError, match=r"unknown key 'lr' \(x\.json\)\. Known keys: steps, "):
        TrainConfig.from_dict({"lr": 0.1}, where="x.json")


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(LessonsError, match=r"unknown preset 'x'\. Known presets: bytes-1m, fluct"):
        train_preset("x")
