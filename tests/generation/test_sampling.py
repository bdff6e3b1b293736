"""What is kept and what is drawn: by hand, by plain Python, as transformers does, by counting."""

import math

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.sampling import (
    SAMPLERS,
    Sampler,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_frequency,
    penalize_repetition,
    temperature_softmax,
)

LOGITS = torch.tensor([2.0, -1.0, 0.5, 0.0, 1.5, -3.0])
GREEDY = Sampler(temperature=0)


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
        assert GREEDY(logits, generator) == largest
    assert torch.equal(generator.get_state(), before)


def test_the_seed_decides():
    assert draw(50, seed=1) == draw(50, seed=1)
    assert draw(50, seed=1) != draw(50, seed=2)


def test_a_temperature_of_zero_is_greedy():
    for zero in (0, 0.0, -0.0):
        assert Sampler(zero).probabilities(LOGITS).tolist() == [1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("temperature", [0.001, 1e6])
def test_extreme_temperatures_still_draw(temperature):
    logits = torch.tensor([1e4, -1e4, 0.0])
    token = Sampler(temperature=temperature)(logits, torch.Generator().manual_seed(0))
    assert token in range(3) if temperature > 1 else token == 0


def by_definition(options, history):
    """The stated distribution, in plain Python: penalties, temperature, top-k, top-p, min-p."""
    scores = LOGITS.tolist()
    for token in set(history):
        penalty = options.get("repetition_penalty", 1.0)
        scores[token] *= 1 / penalty if scores[token] > 0 else penalty
    for token in history:
        scores[token] -= options.get("frequency_penalty", 0.0)
    powers = [math.exp(score / options.get("temperature", 1.0)) for score in scores]
    ranked = sorted(range(6), key=lambda token: -powers[token])
    ranked = ranked[: options.get("top_k", 6)]
    total, before, left = sum(powers[token] for token in ranked), 0.0, []
    for token in ranked:
        if before < options.get("top_p", 1.0) * total:
            left.append(token)
        before += powers[token]
    left = [token for token in left if powers[token] >= options.get("min_p", 0.0) * max(powers)]
    total = sum(powers[token] for token in left)
    return [powers[token] / total if token in left else 0.0 for token in range(6)]


STRATEGIES = {
    "plain": ({}, 6),
    "temperature": ({"temperature": 0.7}, 6),
    "top-k": ({"top_k": 3}, 3),
    "top-p": ({"top_p": 0.85}, 3),
    "min-p": ({"min_p": 0.12}, 4),
    "repetition": ({"repetition_penalty": 1.5}, 6),
    "frequency": ({"frequency_penalty": 0.8}, 6),
    "temperature, then top-p": ({"temperature": 2.0, "top_p": 0.75}, 3),
    "temperature, then min-p": ({"temperature": 2.0, "min_p": 0.3}, 4),
    "top-k, then top-p": ({"top_k": 3, "top_p": 0.93}, 3),
    "top-p, then min-p": ({"top_p": 0.95, "min_p": 0.3}, 2),
    "all": (
        {
            "temperature": 1.3,
            "top_k": 5,
            "top_p": 0.9,
            "min_p": 0.4,
            "repetition_penalty": 1.2,
            "frequency_penalty": 0.3,
        },
        3,
    ),
}
HISTORY = [0, 4, 4, 1]


@pytest.mark.parametrize(("options", "n_left"), STRATEGIES.values(), ids=STRATEGIES)
def test_the_distribution_is_the_stated_one(options, n_left):  # SPEC E4
    expected = by_definition(options, HISTORY)
    found = Sampler(**options).probabilities(LOGITS, HISTORY).tolist()
    assert found == pytest.approx(expected, abs=1e-6)
    assert sum(share > 0 for share in found) == n_left


DRAWN = ["top-k", "top-p", "min-p", "repetition", "frequency", "temperature, then top-p", "all"]


@pytest.mark.parametrize(("options", "n_left"), [STRATEGIES[name] for name in DRAWN], ids=DRAWN)
def test_a_hundred_thousand_draws_of_each_strategy(monkeypatch, options, n_left):  # SPEC E4
    shares = Sampler(**options).probabilities(LOGITS, HISTORY)
    # Worked out once instead of 100,000 times; drawn from by the sampler itself.
    monkeypatch.setattr(Sampler, "probabilities", lambda *_: shares)
    drawn = torch.tensor(draw(100_000, **options))
    counts, expected = torch.bincount(drawn, minlength=6).tolist(), by_definition(options, HISTORY)
    assert sum(count > 0 for count in counts) == n_left
    pairs = zip(counts, expected, strict=True)
    possible = [(count, share) for count, share in pairs if share]
    assert sum(count for count, _ in possible) == 100_000
    assert chi_squared_p_value(*zip(*possible, strict=True)) > 1e-3
    # The same draws are no sample of a distribution that is a little flatter.
    total = sum(share**0.9 for _, share in possible)
    flatter = [(count, share**0.9 / total) for count, share in possible]
    assert chi_squared_p_value(*zip(*flatter, strict=True)) < 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_as_transformers_composes_it(seed):  # SPEC E4, G3
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(200, generator=generator, dtype=torch.float64)
    history = torch.randint(200, (20,), generator=generator)
    parts = [
        transformers.RepetitionPenaltyLogitsProcessor(1.3),
        transformers.TemperatureLogitsWarper(0.8),
        transformers.TopKLogitsWarper(50),
        transformers.TopPLogitsWarper(0.9),
        transformers.MinPLogitsWarper(0.02),
    ]
    theirs = logits[None]
    for part in parts:
        theirs = part(history[None], theirs)
    sampler = Sampler(0.8, top_k=50, top_p=0.9, min_p=0.02, repetition_penalty=1.3)
    ours = sampler.probabilities(logits, history.tolist())
    torch.testing.assert_close(ours, theirs[0].softmax(-1), rtol=0, atol=1e-12)
    assert 1 < (ours > 0).sum() < 50


def test_cold_sampling_is_greedy():  # SPEC E4
    for seed in range(50):
        logits = torch.randn(100, generator=torch.Generator().manual_seed(seed))
        greedy = GREEDY(logits, torch.Generator())
        assert Sampler(temperature=0.001)(logits, torch.Generator().manual_seed(seed)) == greedy


def test_greedy_looks_at_penalties():
    sampler = Sampler(temperature=0, frequency_penalty=1.0)
    assert sampler(LOGITS, torch.Generator(), []) == 0
    assert sampler(LOGITS, torch.Generator(), [0]) == 4
    assert sampler.probabilities(LOGITS, [0]).tolist() == [0, 0, 0, 0, 1, 0]


def test_of_equal_scores_greedy_takes_the_lowest_id():
    assert GREEDY(torch.tensor([0.0, 3.0, 3.0]), torch.Generator()) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_scores_that_are_no_numbers_are_refused(sampler, bad):  # SPEC S9
    logits = LOGITS.clone()
    logits[3] = bad
    with pytest.raises(LessonsError, match=r"^the scores are not all finite\. The model has"):
        sampler(logits, torch.Generator())
    with pytest.raises(LessonsError, match=r"^the scores are not all finite"):
        sampler(torch.full((6,), -math.inf), torch.Generator())


def test_a_token_that_is_never_drawn_may_have_a_score_of_minus_infinity():
    logits = torch.tensor([-math.inf, 0.0, 0.0])
    assert Sampler().probabilities(logits).tolist() == [0.0, 0.5, 0.5]


def test_a_k_beyond_the_vocabulary_is_refused():  # SPEC S6
    with pytest.raises(LessonsError, match=r"^top_k = 7 of a vocabulary of 6 \(Sampler\.top_k\)"):
        Sampler(top_k=7).probabilities(LOGITS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("temperature", value) for value in (-0.1, 0.0009, 1e-40, math.nan, math.inf, None)],
        *[("top_k", value) for value in (0, -1, 2.5, True)],
        *[("top_p", value) for value in (0.0, -0.1, 1.01, math.nan, "0.9", None)],
        *[("min_p", value) for value in (-0.1, 1.01, math.nan, None)],
        *[("repetition_penalty", value) for value in (0.9, 0.0, 10.1, math.nan, math.inf)],
        *[("frequency_penalty", value) for value in (-0.1, 10.1, math.nan, math.inf)],
    ],
)
def test_a_field_that_makes_no_sense_is_refused(field, value):  # SPEC S6, S7
    with pytest.raises(LessonsError) as caught:
        Sampler(**{field: value})
    assert field in str(caught.value)
    assert repr(value) in str(caught.value)


def test_named_samplers_from_the_surest_to_the_most_varied():  # SPEC E4
    assert list(SAMPLERS) == ["greedy", "sure", "balanced", "varied", "plain"]
    logits = torch.linspace(0, -4, 300)
    entropies = []
    for sampler in SAMPLERS.values():
        shares = sampler.probabilities(logits)
        entropies.append(torch.special.entr(shares).sum().item())
    assert entropies[0] == 0
    assert entropies == sorted(set(entropies))
    torch.testing.assert_close(sampler.probabilities(logits), logits.softmax(-1))


# ---- Filters

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
def test_filters_leave_the_argument_alone(keep):
    logits = random_logits((3, 8), seed=0)
    before = logits.clone()
    keep(logits, 0.4 if keep is not keep_top_k else 3)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("k", [0, -1, 7, 1000])
def test_a_k_that_is_not_in_the_vocabulary_is_refused(k):  # SPEC S6
    message = rf"^top_k = {k} of a vocabulary of 6 \(Sampler\.top_k\)\. Use a smaller k"
    with pytest.raises(LessonsError, match=message):
        keep_top_k(torch.zeros(6), k)


# ---- Penalties

HISTORIES = st.lists(st.integers(0, 19), min_size=1, max_size=30)


@given(history=HISTORIES, seed=SEEDS, penalty=st.floats(1.0, 10.0))
def test_repetition_as_in_transformers(history, seed, penalty):  # SPEC E4
    logits = 3 * torch.randn(20, generator=torch.Generator().manual_seed(seed))
    processor = transformers.RepetitionPenaltyLogitsProcessor(penalty)
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


def test_bytes_are_a_history():
    assert penalize_frequency(torch.zeros(256), b"abba", 1.0)[97:99].tolist() == [-2, -2]


@pytest.mark.parametrize("penalize", [penalize_repetition, penalize_frequency])
def test_penalties_leave_the_argument_alone(penalize):
    logits = torch.tensor([4.0, -4.0, 0.0])
    penalize(logits, [0, 1], 2.0)
    assert logits.tolist() == [4.0, -4.0, 0.0]


# Wrong types


@pytest.mark.parametrize("value", ["1", None, 10**400, True, [1.0], math.nan, 1j])
@pytest.mark.parametrize(
    "field", ["temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty"]
)
def test_a_value_of_another_type_is_named(field, value):
    with pytest.raises(LessonsError, match=rf"^{field} = .* \(Sampler\.{field}\)$"):
        Sampler(**{field: value})


@pytest.mark.parametrize("value", ["1", True, 1.0, 0, -(10**400), [1]])
def test_a_top_k_of_another_type_is_named(value):
    with pytest.raises(LessonsError, match=r"^top_k = .* \(Sampler\.top_k\)$"):
        Sampler(top_k=value)


@pytest.mark.parametrize("penalty", [{"repetition_penalty": 2.0}, {"frequency_penalty": 2.0}])
@pytest.mark.parametrize(
    ("history", "message"),
    [
        (None, r"^not token ids: None \(history\)"),
        (3, r"^not token ids: 3 \(history\)"),
        ("ab", r"^not token ids: 'ab' \(history\)"),
        ([0.5], r"^not token ids: \[0\.5\] \(history\)"),
        ([0, 3], r"^token 3 is not in the vocabulary of 3 \(history, position 1\)"),
        ([-1], r"^token -1 is not in the vocabulary of 3 \(history, position 0\)"),
    ],
)
def test_a_history_is_a_list_of_the_models_tokens(penalty, history, message):
    with pytest.raises(LessonsError, match=message):
        Sampler(**penalty).probabilities(torch.zeros(3), history)


def test_a_tensor_is_a_history():
    history = torch.tensor([0, 1, 0, 0], dtype=torch.uint16)
    logits = torch.tensor([4.0, -4.0, 0.0, 4.0])
    assert penalize_frequency(logits, history, 0.5).tolist() == [2.5, -4.5, 0.0, 4.0]
