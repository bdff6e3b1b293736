"""GPTQ: round column by column, and let later columns make up for the errors. Lesson 21.

Shapes: V rows and D columns of a weight matrix; moments (D, D).
"""

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference
from transformer_lessons.weights.quantize import Rounded, grid, nearest, round_to_groups


def second_moments(model: Decoder, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """For each linear layer, by name, the sum of x x^T (D, D) over its inputs x (..., D).

    `batches` are the calibration texts, tokens (B, T); none at all raise `LessonsError`.
    """
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    moments = {n: torch.zeros(m.in_features, m.in_features) for n, m in layers.items()}

    def add(name: str, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].flatten(0, -2).float()
        moments[name] += x.T @ x

    n_tokens = 0
    with ExitStack() as hooks, inference(model):
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_pre_hook(partial(add, name)))
        for tokens in batches:
            model(tokens)
            n_tokens += tokens.numel()
    if n_tokens == 0:
        raise LessonsError("no tokens to calibrate with", where="second_moments")
    return moments


def gptq(
    weight: Tensor, moments: Tensor, bits: int, group: int, symmetric: bool = False
) -> Rounded:
    """`weight` (V, D) rounded so that the layer's output, not the weights, changes little.

    The sum of |W x - W' x|^2 is the sum over rows e of W - W' of e H e^T, with H = `moments`. After
    column j is rounded, the columns after it take the values that make this least: with U from
    H^-1 = U^T U, upper triangular, they lose error / U[j, j] * U[j, j+1:]. Where H is not sure,
    1% of its mean diagonal is added. Raises as `round_to_groups`, which it is for H = identity.
    Source: Frantar et al. 2023, "GPTQ", algorithm 1, in float64 and without its blocks.
    """
    rounded = round_to_groups(weight, bits, group, symmetric)  # checks, and a place for the answer
    w, h = weight.double(), moments.double()
    h = h + 0.01 * h.diag().mean().clamp(min=1e-9) * torch.eye(len(h))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
    u = torch.linalg.cholesky(inverse, upper=True)
    for j in range(w.shape[1]):
        g, start = divmod(j, group)
        if start == 0:  # the grid of what this group's weights have become
            scale, least = grid(w[:, j : j + group].float(), bits, symmetric, torch.float16)
            rounded.scale[:, g], rounded.least[:, g] = scale[:, 0], least[:, 0]
        q = nearest(w[:, j, None].float(), scale, least, bits)
        rounded.q[:, j] = q[:, 0]
        error = w[:, j] - (scale.double() * q + least.double())[:, 0]
        w[:, j + 1 :] -= (error / u[j, j])[:, None] * u[j, j + 1 :]
    return rounded
