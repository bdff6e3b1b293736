"""How the loss falls with size, data and compute: fitted to runs, used to plan one. Lesson 16."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.accounting import flops_per_token


def training_flops(config: ModelConfig, n_tokens: int) -> int:
    """Operations to train on `n_tokens` tokens, in windows as long as the context.

    Backward costs twice as much as forward, and on average a token looks at half of its window.
    Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1.

    >>> training_flops(size_ladder(1)[0], n_tokens=1000)
    27648000
    """
    n_context = (config.context_length + 1) // 2
    return 3 * sum(flops_per_token(config, n_context).values()) * n_tokens


def size_ladder(n_sizes: int) -> list[ModelConfig]:
    """Models of bytes: two blocks of two heads, each model √2 or so wider than the one before.

    >>> [config.d_model for config in size_ladder(6)]
    [8, 12, 16, 24, 32, 48]
    """
    widths = [(12 if rung % 2 else 8) * 2 ** (rung // 2) for rung in range(n_sizes)]
    return [
        ModelConfig(vocab_size=256, context_length=64, d_model=d, n_layers=2, n_heads=2, d_ff=4 * d,
                    norm="rms", ffn="gelu", bias=False, head_bias=False)
        for d in widths
    ]  # fmt: skip


def fit_power_law(x: Any, y: Any) -> tuple[float, float]:
    """k and p of y = k x^p: least squares for the straight line log y = log k + p log x.

    >>> k, p = fit_power_law([1, 2, 4], [3, 12, 48])
    >>> round(k, 6), round(p, 6)
    (3.0, 2.0)
    """
    x, y = _columns("fit_power_law", 2, 2, x, y)
    power, intercept = np.polyfit(np.log(x), np.log(y), 1)
    return float(np.exp(intercept)), float(power)


@dataclass(frozen=True)
class LossSurface:
    """The loss of N parameters after D tokens: L(N, D) = E + A / N^alpha + B / D^beta.

    >>> LossSurface(E=1.0, A=10.0, alpha=0.5, B=10.0, beta=0.5).loss(100, 400)
    2.5
    """

    E: float  # what neither size nor data removes
    A: float
    alpha: float
    B: float
    beta: float

    def loss(self, N: Any, D: Any) -> Any:
        return self.E + self.A / N**self.alpha + self.B / D**self.beta


def fit_loss_surface(N: Any, D: Any, L: Any) -> LossSurface:
    """The surface with the smallest squared error among those whose E, A and B are not negative.

    Given alpha and beta, the loss is linear in E, A and B. Only these two are searched for: on a
    grid, and three times on a finer one around the best (variable projection).
    Source: Golub and Pereyra 1973, "The Differentiation of Pseudo-Inverses".
    """
    N, D, L = _columns("fit_loss_surface", 5, 3, N, D, L)
    n_middle, d_middle = np.exp(np.log([N, D]).mean(axis=1)).tolist()  # N/n_middle is near 1
    best, reach = np.array([0.82, 0.82]), 0.8
    for _ in range(4):
        around = best[:, None] + np.linspace(-reach, reach, 41)
        grid = np.stack(np.meshgrid(*around), axis=-1).reshape(-1, 2).clip(0.01)
        powers = (N / n_middle) ** -grid[:, :1], (D / d_middle) ** -grid[:, 1:]
        q, r = np.linalg.qr(np.stack([np.ones_like(powers[0]), *powers], axis=-1))
        explained = np.swapaxes(q, 1, 2) @ L  # (grid, 3)
        scales = np.linalg.solve(r, explained[..., None])[..., 0]
        errors = np.where((scales < 0).any(axis=1), np.inf, -(explained**2).sum(axis=1))
        lowest = int(errors.argmin())
        best, reach = grid[lowest], reach / 10
    if errors[lowest] == np.inf:
        raise LessonsError("no E, A and B above 0 fit these losses", where="fit_loss_surface")
    (alpha, beta), (E, A, B) = best.tolist(), scales[lowest].tolist()
    return LossSurface(E, A * n_middle**alpha, alpha, B * d_middle**beta, beta)


def best_split(surface: LossSurface, flops: float) -> tuple[float, float]:
    """The N and D with the lowest loss among those that cost `flops` = 6 N D.

    N^(alpha + beta) = (alpha A / (beta B)) (flops/6)^beta.
    Source: Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", equation 4.

    >>> best_split(LossSurface(E=1.0, A=10.0, alpha=0.5, B=10.0, beta=0.5), flops=6e4)
    (100.0, 100.0)
    """
    _columns("best_split", 1, 1, [flops])
    a, b = surface.alpha, surface.beta
    N = (a * surface.A / (b * surface.B) * (flops / 6) ** b) ** (1 / (a + b))
    return N, flops / 6 / N


def bootstrap(fit: Callable[..., Any], *columns: Any, n_times: int = 100, seed: int = 0) -> list:
    """`fit` of `n_times` samples of the runs, drawn with replacement: their spread is the error.

    Source: Efron 1979, "Bootstrap Methods: Another Look at the Jackknife".

    >>> powers = [power for _, power in bootstrap(fit_power_law, [1, 2, 4, 8], [3, 5, 13, 24])]
    >>> len(powers), min(powers) < 1 < max(powers)
    (100, True)
    """
    fit(*columns)  # what is wrong with all runs is wrong with every sample
    table, random = np.array(columns, dtype=float), np.random.default_rng(seed)
    fits: list[Any] = []
    while len(fits) < n_times:
        with suppress(LessonsError):  # a sample with too few different runs
            fits.append(fit(*table[:, random.integers(table.shape[1], size=table.shape[1])]))
    return fits


def _columns(where: str, n_points: int, n_values: int, *columns: Any) -> np.ndarray:
    """The columns as rows of floats, if they are positive and long enough for the fit."""
    same = len({np.shape(column) for column in columns}) == 1 == np.ndim(columns[0])
    table = np.array(columns if same else [0], dtype=float)
    if not (np.isfinite(table) & (table > 0)).all():
        raise LessonsError("not rows of equally many numbers, finite and above 0", where=where)
    n_different = min(len(np.unique(column)) for column in table)
    if table.shape[1] < n_points or n_different < n_values:
        what = f"{table.shape[1]} points with {n_different} different values are too few"
        raise LessonsError(what, where=where, remedy=f"Give {n_points} with {n_values} or more.")
    return table
