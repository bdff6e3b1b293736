"""Which tokens are kept: by hand, by the definitions in plain Python, and as transformers does."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.filters import keep_min_p, keep_top_k, keep_top_p

SEEDS = st.integers(0, 10**6)
SHAPES = st.sampled_from([(1,), (2,), (7,), (60,), (3, 20), (2, 2, 9)])
# Few different scores, so that ties are the rule.
TIED = st.lists(st.sampled_from([-2.0, 0.0, 0.5, 3.0]), min_size=1, max_size=12)


def random_logits(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(shape, generator=generator, dtype=torch.float64)


def kept(logits):
    """The ids that are left of (V,)."""
    return [token for token, score in enumerate(logits.tolist()) if score > -math.inf]


def by_rank(logits):
    """All ids, the most likely first; of equal ones, the lowest first."""
    return sorted(range(len(logits)), key=lambda token: (-logits[token].item(), token))


def their(warper, logits):
    rows = logits.reshape(-1, logits.shape[-1])
    return warper(torch.zeros(len(rows), 1, dtype=torch.long), rows).reshape(logits.shape)


@given(shape=SHAPES, seed=SEEDS, k=st.integers(1, 60))
def test_top_k_as_in_transformers(shape, seed, k):  # SPEC E4
    logits, k = random_logits(shape, seed), min(k, shape[-1])
    found = keep_top_k(logits, k)
    assert torch.equal(found, their(TopKLogitsWarper(k), logits))
    assert (found.isfinite().sum(dim=-1) == k).all()


@given(scores=TIED, k=st.integers(1, 12))
def test_top_k_keeps_exactly_k_when_scores_are_equal(scores, k):  # SPEC E4
    logits, k = torch.tensor(scores), min(k, len(scores))
    found = keep_top_k(logits, k)
    assert kept(found) == sorted(by_rank(logits)[:k])
    assert torch.equal(found[kept(found)], logits[kept(found)])


def test_top_k_by_hand():
    logits = torch.tensor([[2.0, 5.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    expected = [[2.0, 5.0, 2.0, -math.inf], [0.0, 0.0, 0.0, -math.inf]]
    assert keep_top_k(logits, 3).tolist() == expected
    # A threshold, as in transformers, keeps all that are equal to the last one.
    assert their(TopKLogitsWarper(3), logits).isfinite().all()


@given(shape=SHAPES, seed=SEEDS, p=st.floats(0.01, 0.999))
def test_top_p_as_in_transformers(shape, seed, p):  # SPEC E4
    logits = random_logits(shape, seed)
    found = keep_top_p(logits, p)
    assert torch.equal(found, their(TopPLogitsWarper(p), logits))


@given(scores=TIED, p=st.floats(0.01, 0.999))
def test_top_p_keeps_the_fewest_that_reach_p(scores, p):  # SPEC E4
    logits = torch.tensor(scores, dtype=torch.float64)
    shares, order = logits.softmax(-1), by_rank(logits)
    n_kept = next(n for n in range(1, 13) if shares[order[:n]].sum().item() >= p - 1e-12)
    # Where a sum is p to the last digit, one more or less is a matter of rounding.
    if abs(shares[order[:n_kept]].sum().item() - p) > 1e-9:
        assert kept(keep_top_p(logits, p)) == sorted(order[:n_kept])


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.01, [0]),
        (0.49, [0]),
        (0.51, [0, 2]),
        (0.79, [0, 2]),
        (0.81, [0, 1, 2]),
        (0.99, [0, 1, 2, 3]),
    ],
)
def test_top_p_by_hand(p, expected):
    logits = torch.tensor([0.5, 0.15, 0.3, 0.05], dtype=torch.float64).log()
    found = keep_top_p(logits, p)
    assert kept(found) == expected
    assert torch.equal(found[expected], logits[expected])


def test_of_many_equal_tokens_top_p_keeps_the_lowest_ids():
    found = keep_top_p(torch.zeros(4096, dtype=torch.float64), 0.25)
    assert kept(found) == list(range(1024))


def test_top_p_of_one_keeps_all():
    logits = torch.linspace(0, -60, 4096)  # the sum of the shares is 1 long before the end
    assert torch.equal(keep_top_p(logits, 1.0), logits)


@given(shape=SHAPES, seed=SEEDS, p=st.floats(0.001, 1.0))
def test_min_p_as_in_transformers(shape, seed, p):  # SPEC E4
    logits = random_logits(shape, seed)
    found = keep_min_p(logits, p)
    assert torch.equal(found, their(MinPLogitsWarper(p), logits))


@pytest.mark.parametrize(
    ("p", "expected"), [(0.05, [0, 1, 2, 3]), (0.11, [0, 1, 2]), (0.5, [0, 2]), (0.7, [0])]
)
def test_min_p_by_hand(p, expected):
    logits = torch.tensor([0.5, 0.15, 0.3, 0.05], dtype=torch.float64).log()
    found = keep_min_p(logits, p)
    assert kept(found) == expected
    assert torch.equal(found[expected], logits[expected])


def test_min_p_of_one_keeps_the_most_likely_and_its_equals():
    assert kept(keep_min_p(torch.tensor([3.0, 1.0, 3.0, 2.9]), 1.0)) == [0, 2]


@pytest.mark.parametrize("keep", [keep_top_k, keep_top_p, keep_min_p])
def test_the_argument_is_left_alone(keep):
    logits = random_logits((3, 8), seed=0)
    before = logits.clone()
    keep(logits, 0.4 if keep is not keep_top_k else 3)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("k", [0, -1, 7, 1000])
def test_a_k_that_is_not_in_the_vocabulary_is_refused(k):  # SPEC S6
    message = rf"^top_k = {k} of a vocabulary of 6 \(Sampler\.top_k\)\. Use a smaller k"
    with pytest.raises(LessonsError, match=message):
        keep_top_k(torch.zeros(6), k)
