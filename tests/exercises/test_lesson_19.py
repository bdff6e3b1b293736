"""The references of lesson 19 against the package, and numbers worked out by hand."""

from types import SimpleNamespace

import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.generation import speculative
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.generation.speculative import (
    DraftModel,
    PromptLookup,
    accept,
    residual_distribution,
)


def exercise(name):
    return find_exercise(f"19.{name}")


def reference(name):
    return exercise(name).reference


def test_lesson_19_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("19")] == [
        "19.residual",
        "19.n_kept",
        "19.expected_tokens",
        "19.look_up",
        "19.cached_length",
        "19.best_k",
    ]


@pytest.mark.parametrize("case", exercise("residual").cases)
def test_the_residual_is_the_packages(case):  # SPEC G4, G10
    torch.testing.assert_close(reference("residual")(*case), residual_distribution(*case))


def test_the_residual_by_hand():  # SPEC G4, G10
    got = reference("residual")(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6]))
    torch.testing.assert_close(got, torch.tensor([0.75, 0.25, 0.0]))


@pytest.mark.parametrize("case", exercise("n_kept").cases)
def test_as_many_are_kept_as_by_the_package(monkeypatch, case):  # SPEC G4, G10
    """Guess i is token i of its own row; the random numbers are those of the case."""
    p, q, u = case
    draws = iter(u)
    rows = [torch.tensor([*x, 1.0], dtype=torch.float64).repeat(len(u) + 1, 1) for x in (p, q)]
    fake = SimpleNamespace(
        rand=lambda *shape, **how: torch.tensor(next(draws), dtype=torch.float64),
        multinomial=lambda *given, **how: torch.tensor(0),
    )
    monkeypatch.setattr(speculative, "torch", fake)
    assert accept(*rows, range(len(u)), None)[0] == reference("n_kept")(*case)


def test_how_many_are_kept_by_hand():  # SPEC G4, G10
    assert reference("n_kept")([0.3], [0.6], [0.4]) == 1  # 0.4 < 0.5
    assert reference("n_kept")([0.1, 0.9], [0.4, 0.1], [0.3, 0.0]) == 0  # 0.3 > 0.25


@pytest.mark.parametrize("case", exercise("expected_tokens").cases)
def test_expected_tokens_are_counted(case):  # SPEC G4, G10
    """Over all outcomes of a pass: j guesses kept and then one refused, or all k kept."""
    alpha, k = case
    outcomes = {j + 1: alpha**j * (1 - alpha) for j in range(k)} | {k + 1: alpha**k}
    assert sum(outcomes.values()) == pytest.approx(1)
    mean = sum(n * share for n, share in outcomes.items())
    assert reference("expected_tokens")(alpha, k) == pytest.approx(mean)


def test_expected_tokens_by_hand():  # SPEC G4, G10
    assert reference("expected_tokens")(0.5, 2) == pytest.approx(1.75)
    assert reference("expected_tokens")(0.8, 4) == pytest.approx((1 - 0.8**5) / 0.2)


@pytest.mark.parametrize("case", exercise("look_up").cases)
def test_look_up_is_the_packages_with_one_length(case):  # SPEC G4, G10
    sequence, n, k = case
    drafted, _ = PromptLookup(10, longest=n)(sequence, k, Sampler(), torch.Generator())
    assert reference("look_up")(*case) == drafted


@pytest.mark.parametrize("case", exercise("cached_length").cases)
def test_the_cache_of_the_package_has_that_length(random_model, case):  # SPEC G4, G10
    """A draft model is asked again, after its first guesses were kept and one token was drawn."""
    n_tokens, n_guessed, n_kept = case
    model = random_model(ModelConfig(16, 64, d_model=4, n_layers=1, n_heads=2, d_ff=8))
    draft, generator = DraftModel(model), torch.Generator().manual_seed(0)
    text = [1] * n_tokens
    drafted, _ = draft(text, n_guessed + 1, Sampler(), generator)  # one more, so that k are read
    lengths = []
    draft.cache.crop = lambda length: (
        lengths.append(length) or type(draft.cache).crop(draft.cache, length)
    )
    other = (drafted[n_kept] + 1) % 16
    draft([*text, *drafted[:n_kept], other], 1, Sampler(), generator)
    assert lengths == [reference("cached_length")(*case)]


@pytest.mark.parametrize("case", exercise("best_k").cases)
def test_no_other_k_is_better(case):  # SPEC G4, G10
    alpha, cost, most = case
    tokens = reference("expected_tokens")
    rates = [tokens(alpha, k) / (1 + k * cost) for k in range(most + 1)]
    assert rates[reference("best_k")(*case)] == max(rates)


def test_the_best_k_by_hand():  # SPEC G4, G10
    assert reference("best_k")(0.5, 0.6, 4) == 0  # 1.5 tokens in the time of 1.6 passes
    assert reference("best_k")(0.5, 0.4, 4) == 1  # 1.5 / 1.4 against 1.75 / 1.8
