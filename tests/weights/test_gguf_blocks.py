"""Numbers put into blocks: the bytes are those that the package `gguf` writes."""

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from transformer_lessons.errors import LessonsError
from transformer_lessons.weights.gguf_blocks import (
    dequantize,
    quantize_q4_0,
    quantize_q4_1,
    quantize_q8_0,
)

RULES = {"Q8_0": quantize_q8_0, "Q4_0": quantize_q4_0, "Q4_1": quantize_q4_1}
FEW = st.sampled_from([0.0, 1.0, -1.0, 0.5, 3.0, -3.0, 127.0, -127.0, 63.5, 2.5, -8.0])
ANY = st.floats(-(2.0**15), 2.0**15, width=32).filter(lambda x: x == 0 or abs(x) > 2**-99)


@pytest.mark.parametrize("kind", RULES)
@given(arrays(np.float32, (2, 32), elements=FEW | ANY))
def test_the_bytes_are_those_of_gguf(kind, numbers):  # SPEC G10
    numbers = numbers + np.float32(0)  # which zero is the least, 0 or -0, NumPy leaves open
    found = RULES[kind](torch.from_numpy(numbers))
    expected = gguf.quants.quantize(numbers, Type[kind])
    assert found.dtype == torch.uint8
    assert np.array_equal(found.view(2, -1).numpy(), expected)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("shape", [(32,), (5, 64), (2, 3, 96)])
def test_matrices_of_ordinary_weights(kind, shape):  # SPEC G10
    numbers = np.random.default_rng(0).normal(size=shape).astype(np.float32) / 20
    found = RULES[kind](torch.from_numpy(numbers))
    expected = gguf.quants.quantize(numbers, Type[kind])
    assert np.array_equal(found.flatten().numpy(), expected.flatten())
    left = dequantize(found, kind).view(shape).numpy()
    assert np.array_equal(left, gguf.quants.dequantize(expected, Type[kind]))


@pytest.mark.parametrize("kind", RULES)
def test_halves_and_ties_go_where_gguf_sends_them(kind):
    halves = np.arange(32, dtype=np.float32) - 15.5
    for largest in (127, -127, 8, -8, 15, -15.5, 15.5):  # of 15.5 and -15.5, Q4_0 takes the first
        halves[3] = largest
        found = RULES[kind](torch.from_numpy(halves))
        assert np.array_equal(found[0].numpy(), gguf.quants.quantize(halves, Type[kind]))


@pytest.mark.parametrize("kind", RULES)
def test_groups_too_small_for_an_inverse_become_zeros(kind):
    """Where 1 / scale is no float32, gguf's answer is undefined; ours is 0."""
    tiny = torch.full((1, 32), 2.0**-148)
    assert not dequantize(RULES[kind](tiny), kind).any()


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        (torch.zeros(4, 33), r"\(4, 33\) are not made of groups of 32"),
        (torch.tensor(1.0), r"\(\) are not made of groups of 32"),
        (torch.full((32,), float("nan")), "not a finite number"),
        (torch.full((32,), float("inf")), "not a finite number"),
        (torch.tensor([-1e9] + 31 * [1e9]), "must fit in float16"),
    ],
)
def test_what_a_block_cannot_hold_is_refused(kind, numbers, what):
    with pytest.raises(LessonsError, match=what):
        RULES[kind](numbers)
