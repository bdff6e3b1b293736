"""How two values differ and how they are shown, word for word.  # SPEC G4"""

import math

import numpy as np
import pytest
import torch

from transformer_lessons.exercises.compare import difference, show


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (1.0, 1.0 + 1e-6),
        (2.0, 2),
        (math.inf, math.inf),
        (math.nan, math.nan),
        (torch.tensor([1000.0]), torch.tensor([1000.009])),
        (torch.tensor([math.nan, -math.inf]), torch.tensor([math.nan, -math.inf])),
        (torch.tensor([1.0]), torch.tensor([1.0], requires_grad=True)),
        (torch.tensor([True]), torch.tensor([True])),
        (np.array([1.0, 2.0]), np.array([1.0, 2.0])),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
        ((b"ab", "ab", None), (b"ab", "ab", None)),
        # Numbers, tables and sequences count by their values, whatever library they come from.
        (1.0, torch.tensor(1.0)),
        (1, 1.0),
        (1, True),
        (True, np.bool_(True)),
        (3, np.int64(3)),
        ([1], (1,)),
        ((1, 2), torch.tensor([1, 2])),
        ([(1, 2)], [[np.int32(1), 2.0]]),
        (torch.tensor([True]), torch.tensor([1])),
        (torch.zeros(1), np.zeros(1)),
        (torch.zeros(2), [0, 0.0]),
        (np.zeros(1), np.zeros(1, dtype=np.int64)),
        (torch.tensor([0.1]), torch.tensor([0.1], dtype=torch.float64)),
    ],
)
def test_equal_within_tolerance(expected, got):  # SPEC G4
    assert difference(expected, got, 1e-5) == ""


@pytest.mark.parametrize(
    ("expected", "got", "sentence"),
    [
        (1.0, 1.0001, "expected 1.0, got 1.0001"),
        (1.0, math.nan, "expected 1.0, got nan"),
        (math.inf, -math.inf, "expected inf, got -inf"),
        (b"ab", "ab", "expected type bytes, got str"),
        ([1, 2], [1], "expected 2 items, got 1"),
        (([1, 2], [3, 4]), ([1, 2], [3, 5]), "at [1][1]: expected 4, got 5"),
        ({"a": 1}, {"b": 1}, "expected the keys ['a'], got ['b']"),
        ({"a": 1}, {"a": 2}, "at ['a']: expected 1, got 2"),
        (torch.zeros(2, 3), torch.zeros(3, 2), "expected shape (2, 3), got (3, 2)"),
        (
            torch.tensor([[0.0, 1.0]]),
            torch.tensor([[0.0, math.nan]]),
            "at [0, 1]: expected 1.0, got nan (1 of 2 values differ)",
        ),
        (torch.tensor(0.5), torch.tensor(0.25), "expected 0.5, got 0.25"),
        (1, 2.0, "expected 1, got 2.0"),
        (1, "1", "expected type int, got str"),
        (1.0, torch.ones(1), "expected type float, got Tensor"),
        ([1], 1, "expected type list, got int"),
        ([1], torch.tensor(1), "expected type list, got Tensor"),
        ([1], {1}, "expected type list, got set"),
        (torch.zeros(2), [[0], [0, 0]], "expected type Tensor, got list"),
        (torch.zeros(1), torch.zeros(1, device="meta"), "expected type Tensor, got Tensor"),
        (1.0, 1.000021, "expected 1.0, got 1.000021"),
        (1.0, 1.00002000001, "expected 1.0, got 1.00002"),
        (
            (torch.zeros(1), torch.zeros(2)),
            (torch.zeros(1), torch.ones(2)),
            "at [1][0]: expected 0.0, got 1.0 (2 of 2 values differ)",
        ),
    ],
)
def test_difference_is_named(expected, got, sentence):  # SPEC G4
    assert difference(expected, got, 1e-5) == sentence


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.0, "0.0"),
        (1 / 3, "0.3333"),
        ((1.5,), "(1.5,)"),
        (torch.tensor([-1e-9]), "[0.0]"),
        (np.array([[1, 2], [3, 4]]), "[[1, 2],\n [3, 4]]"),
        (torch.zeros(3, 256), "Tensor of shape (3, 256)"),
        (list(range(30)), "[" + ", ".join(map(str, range(20))) + ", … 30 items]"),
        ("x" * 100, "'" + "x" * 78 + "…"),
        (None, "None"),
        (ValueError("boom"), "<ValueError>"),
        ({b"a": 0.25}, "{b'a': 0.25}"),
    ],
)
def test_values_are_shown_short_and_the_same_everywhere(value, text):  # SPEC G4
    assert show(value) == text


def test_values_that_round_alike_are_shown_with_more_digits():  # SPEC G4
    assert difference(0.5, 0.5000004) == "expected 0.5, got 0.5000004"
    assert difference(torch.tensor([0.5]), [0.5000004]) == (
        "at [0]: expected 0.5, got 0.5000004 (1 of 1 values differ)"
    )
