"""Penalties by hand, and as transformers does."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from transformer_lessons.generation.penalties import (
    count_tokens,
    penalize_frequency,
    penalize_repetition,
)

HISTORIES = st.lists(st.integers(0, 19), min_size=1, max_size=30)
SEEDS = st.integers(0, 10**6)


@given(history=HISTORIES, seed=SEEDS, penalty=st.floats(1.0, 10.0))
def test_repetition_as_in_transformers(history, seed, penalty):  # SPEC E4
    logits = 3 * torch.randn(20, generator=torch.Generator().manual_seed(seed))
    processor = RepetitionPenaltyLogitsProcessor(penalty)
    expected = processor(torch.tensor([history]), logits[None].clone())[0]
    torch.testing.assert_close(penalize_repetition(logits, history, penalty), expected)


@given(history=HISTORIES, seed=SEEDS, penalty=st.floats(0.0, 10.0))
def test_frequency_by_its_definition(history, seed, penalty):
    logits = 3 * torch.randn(20, generator=torch.Generator().manual_seed(seed))
    found = penalize_frequency(logits, history, penalty).tolist()
    pairs = enumerate(logits.tolist())
    expected = [score - penalty * history.count(token) for token, score in pairs]
    assert found == pytest.approx(expected, abs=1e-4)


def test_repetition_by_hand():
    logits = torch.tensor([4.0, -4.0, 0.0, 4.0, -4.0])
    found = penalize_repetition(logits, [0, 1, 2, 0, 0], 2.0)
    assert found.tolist() == [2.0, -8.0, 0.0, 4.0, -4.0]
    # Once or often, it is the same.
    assert torch.equal(found, penalize_repetition(logits, [2, 1, 0], 2.0))


def test_frequency_by_hand():
    logits = torch.tensor([4.0, -4.0, 0.0, 4.0])
    assert penalize_frequency(logits, [0, 1, 0, 0], 0.5).tolist() == [2.5, -4.5, 0.0, 4.0]


def test_without_a_history_nothing_changes():
    logits = torch.tensor([4.0, -4.0, 0.0])
    assert torch.equal(penalize_repetition(logits, [], 5.0), logits)
    assert torch.equal(penalize_frequency(logits, [], 5.0), logits)
    assert count_tokens([], 3).tolist() == [0, 0, 0]


def test_bytes_are_a_history():
    assert count_tokens(b"abba", 256)[97:99].tolist() == [2, 2]


@pytest.mark.parametrize("penalize", [penalize_repetition, penalize_frequency])
def test_the_argument_is_left_alone(penalize):
    logits = torch.tensor([4.0, -4.0, 0.0])
    penalize(logits, [0, 1], 2.0)
    assert logits.tolist() == [4.0, -4.0, 0.0]
