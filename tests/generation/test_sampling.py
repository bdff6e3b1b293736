"""Choosing a token: the shares are those of the softmax, and the seed decides."""

import math

import pytest
import torch

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.sampling import Sampler, temperature_softmax

LOGITS = torch.tensor([2.0, -1.0, 0.5, 0.0, 1.5, -3.0])


def softmax_by_hand(logits, temperature):
    powers = [math.exp(score / temperature) for score in logits.tolist()]
    return [power / sum(powers) for power in powers]


def chi_squared_p_value(counts, shares):
    """How often a fair draw looks at least this unlike `shares` (Pearson 1900)."""
    n_draws = sum(counts)
    pairs = zip(counts, shares, strict=True)
    statistic = sum((n - n_draws * share) ** 2 / (n_draws * share) for n, share in pairs)
    half_freedom = torch.tensor((len(counts) - 1) / 2, dtype=torch.float64)
    return torch.special.gammaincc(half_freedom, torch.tensor(statistic / 2).double()).item()


def draw(n_draws, seed=0, **options):
    sampler, generator = Sampler(**options), torch.Generator().manual_seed(seed)
    return [sampler(LOGITS, generator) for _ in range(n_draws)]


@pytest.mark.parametrize(("temperature", "n_draws"), [(1.0, 100_000), (0.6, 20_000), (3.0, 20_000)])
def test_the_shares_of_many_draws(temperature, n_draws):
    drawn = torch.tensor(draw(n_draws, temperature=temperature))
    counts = torch.bincount(drawn, minlength=6).tolist()
    right = softmax_by_hand(LOGITS, temperature)
    assert chi_squared_p_value(counts, right) > 1e-3
    # The test would see a temperature that is a twentieth off.
    wrong = softmax_by_hand(LOGITS, temperature * 1.05)
    assert chi_squared_p_value(counts, wrong) < 1e-3 or n_draws < 100_000
    inverted = softmax_by_hand(LOGITS, 1 / temperature if temperature != 1 else 2)
    assert chi_squared_p_value(counts, inverted) < 1e-9


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 2.0, 10.0])
def test_temperature_divides_the_scores(temperature):
    expected = torch.tensor(softmax_by_hand(LOGITS, temperature))
    torch.testing.assert_close(temperature_softmax(LOGITS, temperature), expected)


def test_low_temperature_is_sharp_and_high_is_flat():
    assert set(draw(200, temperature=0.01)) == {0}
    assert set(draw(500, temperature=100.0)) == set(range(6))


def test_greedy_is_the_largest_score_and_draws_no_random_number():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    for seed in range(20):
        logits = torch.randn(50, generator=torch.Generator().manual_seed(seed))
        largest = max(range(50), key=lambda token: logits[token].item())
        assert Sampler(greedy=True)(logits, generator) == largest
    assert torch.equal(generator.get_state(), before)


def test_the_seed_decides():
    assert draw(50, seed=1) == draw(50, seed=1)
    assert draw(50, seed=1) != draw(50, seed=2)


@pytest.mark.parametrize("temperature", [0, 0.0, -1, -0.1, math.nan, math.inf, -math.inf, 1e-40])
@pytest.mark.parametrize("greedy", [True, False])
def test_a_temperature_that_makes_no_sense_is_refused(temperature, greedy):
    with pytest.raises(LessonsError) as caught:
        Sampler(temperature=temperature, greedy=greedy)
    assert caught.value.what.startswith(f"temperature = {temperature!r} is not ")
    assert caught.value.where == "Sampler.temperature"
    assert "greedy" in caught.value.remedy


@pytest.mark.parametrize("temperature", [0.001, 1e6])
def test_extreme_temperatures_still_draw(temperature):
    logits = torch.tensor([1e4, -1e4, 0.0])
    token = Sampler(temperature=temperature)(logits, torch.Generator().manual_seed(0))
    assert token in range(3) if temperature > 1 else token == 0
