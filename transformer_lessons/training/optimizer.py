"""The rule that turns gradients into steps: AdamW, and Muon for matrices. Lesson 12.

Both keep their averages under the names that PyTorch's own optimizers use, so that a run can be
continued with either.
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from transformer_lessons.model.decoder import Decoder
from transformer_lessons.training.config import TrainConfig


def adamw_update(
    parameter: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """One AdamW step on one tensor, in place; `step` counts from 1.

    mean <- b1 mean + (1 - b1) g and square <- b2 square + (1 - b2) g² are running averages that
    start at zero, and are too small at first by 1 - b1**step and 1 - b2**step. With both put right,
    parameter <- (1 - lr weight_decay) parameter - lr mean / (sqrt(square) + eps).
    Sources: Kingma and Ba 2015, "Adam", algorithm 1; Loshchilov and Hutter 2019, "Decoupled Weight
    Decay Regularization", algorithm 2.

    >>> weight, mean, square = torch.tensor([1.0]), torch.zeros(1), torch.zeros(1)
    >>> adamw_update(weight, torch.tensor([20.0]), mean, square, step=1, lr=0.1)
    >>> weight  # the first step has the length lr, whatever the gradient
    tensor([0.9000])
    """
    parameter.mul_(1 - lr * weight_decay)
    mean.lerp_(gradient, 1 - betas[0])
    square.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    size = square.sqrt() / math.sqrt(1 - betas[1] ** step) + eps
    parameter.addcdiv_(mean, size, value=-lr / (1 - betas[0] ** step))


class AdamW(Optimizer):
    """`adamw_update` for every parameter, with the averages kept between steps.

    `params` are parameters, or groups of them with settings of their own.

    >>> weight = nn.Parameter(torch.tensor([1.0]))
    >>> weight.grad = torch.tensor([20.0])
    >>> AdamW([weight], lr=0.1, weight_decay=0.0).step()
    >>> weight.data
    tensor([0.9000])
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            settings = {name: group[name] for name in ("lr", "betas", "eps", "weight_decay")}
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                state["step"] += 1
                averages = state["exp_avg"], state["exp_avg_sq"]
                adamw_update(p, p.grad, *averages, int(state["step"]), **settings)


def newton_schulz(matrix: Tensor, n_rounds: int = 5) -> Tensor:
    """Near the orthogonal matrix closest to `matrix` (N, M): the same directions, each of size 1.

    In X = U S Vᵀ, a round replaces each singular value s by a s + b s³ + c s⁵, with a, b and c
    chosen so that after five rounds what was between 0.002 and 1 is between 0.68 and 1.21. It needs
    only matrix products, and bfloat16 is exact enough for it.
    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".

    >>> _ = torch.manual_seed(0)
    >>> sizes = torch.linalg.svdvals(newton_schulz(torch.randn(8, 4)).float())
    >>> bool(((0.6 < sizes) & (sizes < 1.3)).all())
    True
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    is_tall = len(x) > x.shape[1]
    x = x.T if is_tall else x  # the products below are of the smaller side
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(n_rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


class Muon(Optimizer):
    """Steps that move every direction of a matrix by about the same: for hidden matrices only.

    The gradient is averaged, average <- b average + (1 - b) g; the sum (1 - b) g + b average, a
    look ahead (Nesterov), is made orthogonal by Newton-Schulz; and
    parameter <- (1 - lr weight_decay) parameter - 0.2 sqrt(max(N, M)) lr step.
    The factor gives a step numbers of the size that AdamW's have, so that one learning rate does
    for both.
    Sources: Jordan et al. 2024, "Muon"; Liu et al. 2025, "Muon is Scalable for LLM Training",
    section 2.2, for the factor and the decay.

    >>> weight = nn.Parameter(torch.eye(2))
    >>> weight.grad = torch.tensor([[9.0, 0.0], [0.0, 0.1]])
    >>> Muon([weight], lr=0.1).step()
    >>> weight.data.diag() < 0.99  # the small direction has moved as well
    tensor([True, True])
    """

    def __init__(
        self, params: Iterable, lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.1
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                average = state["momentum_buffer"].lerp_(p.grad, 1 - momentum)
                step = newton_schulz(p.grad.lerp(average, momentum))
                p.mul_(1 - lr * group["weight_decay"])
                p.add_(step.to(p.dtype), alpha=-lr * (0.2 * math.sqrt(max(p.shape))))


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict]:
    """Matrices, which shrink a little at every step, and vectors (biases, norms), which don't."""
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def make_optimizers(model: Decoder, config: TrainConfig) -> list[Optimizer]:
    """The optimizers that `config` asks for; together they have every parameter once.

    Muon takes the matrices of the blocks; embedding, head, biases and norms stay with AdamW.
    `fused` means PyTorch's AdamW, which does a step in one pass over the memory.
    """
    adamw = partial(torch.optim.AdamW, fused=True) if config.fused else AdamW
    settings: dict[str, Any] = {"lr": config.learning_rate, "betas": (config.beta1, config.beta2)}
    if config.optimizer == "adamw":
        return [adamw(parameter_groups(model.parameters(), config.weight_decay), **settings)]
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    taken = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in taken]
    return [
        Muon(matrices, lr=config.learning_rate, weight_decay=config.weight_decay),
        adamw(parameter_groups(others, config.weight_decay), **settings),
    ]
