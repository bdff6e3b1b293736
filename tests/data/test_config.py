"""The choices of `prepare`: every impossible value is named, and JSON gives them back."""

import json
import math
from dataclasses import fields

import pytest

from transformer_lessons.data.config import DataConfig
from transformer_lessons.errors import LessonsError

SHARES = ("min_letters", "min_compressed")
BAD = [("cleaning", value) for value in (["normalize_unicode"], "no", 1, None)]
BAD += [("min_characters", value) for value in (0, -1, 1.5, "4", True)]
BAD += [(name, value) for name in SHARES for value in (-0.01, 1.01, math.nan, "1", None, True)]
BAD += [("duplicates", value) for value in ("none", "", None, True)]
BAD += [("similarity", value) for value in (0.69, 1.01, math.nan, "0.8", None, True)]
BAD += [(name, v) for name in ("validation", "test") for v in (-0.1, 1, math.nan, "0", None, True)]
BAD += [("seed", value) for value in (-1, 2**63, 1.0, "1", None, True)]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_named(name, value):  # SPEC S7
    with pytest.raises(LessonsError) as caught:
        DataConfig(**{name: value})
    assert caught.value.where == f"DataConfig.{name}"
    assert caught.value.what.startswith(f"{name} = {value!r} is not ")


def test_every_field_is_in_the_list_above():  # SPEC S7
    assert {field.name for field in fields(DataConfig)} == {name for name, _ in BAD}


def test_a_full_split_is_refused():  # SPEC S7
    with pytest.raises(LessonsError, match=r"validation = 0\.5 and test = 0\.5 leave nothing"):
        DataConfig(validation=0.5, test=0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[
            ("cleaning", False),
            ("duplicates", "keep"),
            ("duplicates", "exact"),
            ("similarity", 0.7),
        ],
        *[("similarity", 1), ("validation", 0), ("test", 0.9), ("seed", 2**63 - 1)],
    ],
)
def test_the_ends_of_each_range_are_allowed(name, value):  # SPEC S7
    assert getattr(DataConfig(**{name: value}), name) == value


def test_json_and_back():  # SPEC A4
    config = DataConfig(False, 1, 0.2, 0.3, "exact", 0.9, 0.1, 0.2, 7)
    values = json.loads(json.dumps(config.to_dict()))
    assert values["min_compressed"] == 0.3
    assert DataConfig.from_dict(values) == config
    assert DataConfig.from_dict({}) == DataConfig()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"clean": []}, r"unknown key 'clean' \(c\.json\)\. Known keys: cleaning, min_char"),
        ({"min_letters": 2}, r"\(c\.json, DataConfig\.min_letters\)"),
        ({"cleaning": ["x"]}, r"cleaning = \['x'\] is not true or false \(c\.json, DataConfig"),
        ([], "a config must be a JSON object"),
    ],
)
def test_bad_files_say_where(values, expected):  # SPEC A4
    with pytest.raises(LessonsError, match=expected):
        DataConfig.from_dict(values, where="c.json")
