"""Scaling laws: FLOPs against PyTorch's own counter, fits against other ways to find them."""

import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.accounting import count_parameters, parameter_counts
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.training.scaling import (
    LossSurface,
    best_split,
    bootstrap,
    fit_loss_surface,
    fit_power_law,
    size_ladder,
    training_flops,
)

SURFACE = LossSurface(E=0.9, A=40.0, alpha=0.35, B=500.0, beta=0.42)
N, D = np.geomspace(5e3, 5e5, 5).repeat(5), np.tile(np.geomspace(2e5, 2e7, 5), 5)


def test_flops_of_a_step_are_what_pytorch_counts():
    """All but the gradient of the first layer's input, which nobody needs; scores are half."""
    for config in size_ladder(5)[2:]:
        model, tokens = Decoder(config), torch.zeros(2, 64, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            model(tokens).sum().backward()
        d, n_tokens = config.d_model, tokens.numel()
        scores = 3 * config.n_layers * 4 * d * 32 * n_tokens
        ours = training_flops(config, n_tokens)
        assert ours <= counter.get_total_flops() <= ours + 2 * scores


def test_six_times_parameters_times_tokens_is_near():
    for config in size_ladder(10):
        counts = parameter_counts(config)
        rule = 6 * (sum(counts.values()) - counts["embedding"]) * 1000
        assert rule < training_flops(config, 1000) < 1.3 * rule  # scores count more in the smallest


def test_the_ladder_differs_in_width_alone():
    ladder = size_ladder(10)
    assert [c.d_model for c in ladder] == [8, 12, 16, 24, 32, 48, 64, 96, 128, 192]
    assert len({(c.n_layers, c.n_heads, c.vocab_size, c.context_length) for c in ladder}) == 1
    sizes = [count_parameters(Decoder(config)) for config in ladder]
    assert sizes == [24 * d * d + 517 * d for d in (c.d_model for c in ladder)]


def test_a_power_law_without_noise_is_found_again():
    x = np.array([1e11, 3e11, 1e12, 4e12])
    k, p = fit_power_law(x, 0.07 * x**0.53)
    assert math.isclose(k, 0.07, rel_tol=1e-9)
    assert math.isclose(p, 0.53, rel_tol=1e-12)


def test_with_noise_it_is_the_regression_of_the_logarithms():
    x, y = np.array([1.0, 2.0, 5.0, 9.0]), np.array([3.0, 4.0, 11.0, 15.0])
    u, v = np.log(x), np.log(y)
    power = ((u - u.mean()) * (v - v.mean())).sum() / ((u - u.mean()) ** 2).sum()
    k, p = fit_power_law(x, y)
    assert math.isclose(p, power)
    assert math.isclose(math.log(k), v.mean() - power * u.mean())


@pytest.mark.parametrize(
    "true",
    [
        SURFACE,
        LossSurface(E=1.8172, A=482.01, alpha=0.3478, B=2085.43, beta=0.3658),
        LossSurface(E=0.4, A=900.0, alpha=0.71, B=25.0, beta=0.18),
    ],
)
def test_a_surface_without_noise_is_found_again(true):
    found = fit_loss_surface(N, D, true.loss(N, D))
    for name in ("E", "A", "alpha", "B", "beta"):
        assert math.isclose(getattr(found, name), getattr(true, name), rel_tol=2e-3), name


def test_no_other_surface_nearby_is_better():
    """The squared error at the fit, against 2,000 surfaces around it."""
    random = np.random.default_rng(0)
    losses = SURFACE.loss(N, D) + random.normal(0, 0.02, len(N))
    found = fit_loss_surface(N, D, losses)
    least = ((found.loss(N, D) - losses) ** 2).sum()
    for _ in range(2000):
        near = np.exp(random.normal(0, 10 ** random.uniform(-4, -1), 5))
        values = np.array([found.E, found.A, found.alpha, found.B, found.beta]) * near
        other = LossSurface(*values)
        assert ((other.loss(N, D) - losses) ** 2).sum() > least - 1e-7


def test_a_fit_keeps_e_a_and_b_above_zero():
    found = fit_loss_surface(N, D, 30 / N**0.3 + 200 / D**0.3)
    assert min(found.E, found.A, found.B) >= 0


@pytest.mark.parametrize("flops", [1e11, 5.76e23])
def test_the_best_split_is_the_lowest_of_many(flops):
    best_n, best_d = best_split(SURFACE, flops)
    assert math.isclose(6 * best_n * best_d, flops)
    sizes = best_n * np.geomspace(0.5, 2, 100_001)
    lowest = sizes[SURFACE.loss(sizes, flops / 6 / sizes).argmin()]
    assert math.isclose(lowest, best_n, rel_tol=1e-4)


def test_published_surfaces_split_chinchillas_budget():
    """Hoffmann et al. 2022 as printed, and Besiroglu et al. 2024: 93 and 18 tokens a parameter."""
    ratios = []
    for surface in (
        LossSurface(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28),
        LossSurface(E=1.8172, A=482.01, alpha=0.3478, B=2085.43, beta=0.3658),
    ):
        best_n, best_d = best_split(surface, 5.76e23)
        ratios.append(best_d / best_n)
    assert ratios == pytest.approx([92.6, 18.4], abs=0.1)


def test_a_bootstrap_spreads_like_repetitions_of_the_experiment():
    """The exponent's standard error, by White's formula from the residuals (1980)."""
    random = np.random.default_rng(1)
    x = np.geomspace(1, 100, 60)
    y = 3 * x**0.5 * np.exp(random.normal(0, 0.1, len(x)))
    powers = [p for _, p in bootstrap(fit_power_law, x, y, n_times=400)]
    u, (k, p) = np.log(x) - np.log(x).mean(), fit_power_law(x, y)
    residuals = np.log(y / (k * x**p))
    error = math.sqrt((u**2 * residuals**2).sum()) / (u**2).sum()
    assert math.isclose(np.std(powers), error, rel_tol=0.12)  # 400 draws: 3.5% by chance
    assert bootstrap(fit_power_law, x, y, n_times=3) == bootstrap(fit_power_law, x, y, n_times=3)


def test_samples_with_too_few_runs_are_drawn_again():
    fits = bootstrap(fit_power_law, [1, 2, 4], [3, 5, 9], n_times=50)
    assert len(fits) == 50


@pytest.mark.parametrize(
    ("fit", "columns", "message"),
    [
        (fit_power_law, ([1], [2]), "too few"),
        (fit_power_law, ([2, 2, 2], [1, 2, 3]), "too few"),
        (fit_power_law, ([], []), "too few"),
        (fit_power_law, ([1, 2], [1, 0]), "above 0"),
        (fit_power_law, ([1, 2], [1, math.inf]), "above 0"),
        (fit_power_law, ([1, 2], [1, math.nan]), "above 0"),
        (fit_power_law, ([1, 2, 3], [1, 2]), "rows"),
        (fit_power_law, (1, 2), "rows"),
        (fit_loss_surface, (N[:4], D[:4], [4, 3, 2, 1]), "too few"),
        (fit_loss_surface, (N, D[:1].repeat(25), SURFACE.loss(N, D)), "too few"),
        (fit_loss_surface, (-N, D, SURFACE.loss(N, D)), "above 0"),
        (fit_loss_surface, (N, D, N / 1e5 + D / 1e7), "fit these losses"),
        (best_split, (SURFACE, 0.0), "above 0"),
    ],
)
def test_what_can_not_be_fitted_is_refused(fit, columns, message):
    calls = [fit] if fit is best_split else [fit, lambda *rows: bootstrap(fit, *rows)]
    for call in calls:
        with pytest.raises(LessonsError, match=message):
            call(*(list(c) if isinstance(c, np.ndarray) else c for c in columns))
