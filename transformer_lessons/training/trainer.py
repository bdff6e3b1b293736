"""The training loop: look at a batch, measure the loss, nudge every parameter, repeat."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transformer_lessons.errors import LessonsError
from transformer_lessons.text.batches import IGNORE
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.loss import cross_entropy
from transformer_lessons.training.schedule import cosine_schedule


@dataclass(frozen=True)
class StepReport:
    """What one training step did; the loss is from before the step."""

    step: int  # counted from 1
    loss: float  # nats per real target
    learning_rate: float
    grad_norm: float  # length of the gradient of all parameters, before clipping
    n_targets: int
    seconds: float


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    clip_norm: float,
    where: str = "train_step",
) -> tuple[float, float]:
    """One step: loss, gradient, gradient cut to length `clip_norm`, update. Returns both numbers.

    A loss that is not a finite number raises `LessonsError` before anything is changed.
    """
    loss = cross_entropy(model(inputs), targets)
    if not math.isfinite(loss.item()):
        remedy = "Lower the learning rate, or look at the data of this step."
        raise LessonsError(f"the loss is {loss.item()}", where=where, remedy=remedy)
    optimizer.zero_grad()
    loss.backward()
    grad_norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return loss.item(), grad_norm.item()


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Matrices, which shrink a little at every step, and vectors (biases, norms), which don't."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def learning_rate_at(config: TrainConfig, step: int) -> float:
    """The learning rate of step `step`, counted from 0, as `config` plans it."""
    return cosine_schedule(
        step,
        config.learning_rate,
        config.min_learning_rate,
        config.warmup_steps,
        config.steps,
    )


class Trainer:
    """Runs `config.steps` training steps of AdamW on `batches`, an endless iterator.

    `on_step` gets a `StepReport` after every step: to print, to draw, to save.
    >>> from transformer_lessons.presets import preset
    >>> from transformer_lessons.model.decoder import Decoder
    >>> from transformer_lessons.text.batches import random_windows
    >>> batches = random_windows(torch.tensor([97, 98] * 32), context_length=16, batch_size=8)
    >>> reports = Trainer(Decoder(preset("fluctlight")), TrainConfig(steps=2), batches).fit()
    >>> round(reports[0].loss, 1)  # ln 256 = 5.545: it knows nothing yet
    5.5
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        batches: Iterator[tuple[Tensor, Tensor]],
        on_step: Callable[[StepReport], None] = lambda report: None,
    ) -> None:
        self.model, self.config, self.batches, self.on_step = model, config, batches, on_step
        groups = parameter_groups(model, config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)

    def fit(self) -> list[StepReport]:
        self.model.train()
        return [self.step(number) for number in range(1, self.config.steps + 1)]

    def step(self, number: int) -> StepReport:
        """Training step `number`, counted from 1."""
        config, device = self.config, next(self.model.parameters()).device
        start = time.perf_counter()
        learning_rate = learning_rate_at(config, number - 1)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        inputs, targets = next(self.batches)
        inputs, targets = inputs.to(device), targets.to(device)
        loss, grad_norm = train_step(
            self.model, self.optimizer, inputs, targets, config.clip_norm, where=f"step {number}"
        )
        n_targets = int((targets != IGNORE).sum())
        seconds = time.perf_counter() - start
        report = StepReport(number, loss, learning_rate, grad_norm, n_targets, seconds)
        self.on_step(report)
        return report
