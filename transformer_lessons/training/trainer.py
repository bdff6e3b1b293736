"""The training loop: look at a batch, measure the loss, nudge every parameter, repeat."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.compilation import compiled
from transformer_lessons.training.clipping import clip_grad_norm
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import Evaluation
from transformer_lessons.training.head_loss import total_surprise_of_head
from transformer_lessons.training.loss import total_surprise
from transformer_lessons.training.optimizer import make_optimizers
from transformer_lessons.training.precision import GradScaler, autocast
from transformer_lessons.training.schedule import learning_rate_at

Batch = tuple[Tensor, Tensor]  # inputs and targets, (B, T) each


@dataclass(frozen=True)
class StepReport:
    """What one training step did; the loss is from before the step."""

    step: int  # counted from 1
    loss: float  # nats per real target
    learning_rate: float
    grad_norm: float  # length of the gradient of all parameters, before clipping
    n_targets: int
    seconds: float
    validation: float | None = None  # nats per target of the held-out text, after the step
    is_best: bool = False  # the lowest validation so far


class Position(Protocol):
    """Where the data stands: what a checkpoint keeps of it."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def batch_surprise(
    model: nn.Module, inputs: Tensor, targets: Tensor, loss_chunk_size: int | None = None
) -> Tensor:
    """The sum of the surprise over all real targets of one batch, in nats.

    With `loss_chunk_size`, head and loss are computed for so many tokens at a time.
    """
    if loss_chunk_size is None:
        return total_surprise(model(inputs), targets)
    head = model.head
    return total_surprise_of_head(
        model.hidden_states(inputs), head.weight, head.bias, targets, loss_chunk_size
    )


def accumulate_gradients(
    surprise: Callable[[Tensor, Tensor], Tensor], batches: Sequence[Batch], scale: float = 1.0
) -> tuple[float, int]:
    """Add to the gradients those of `scale` times the mean loss over all `batches` together.

    Each batch counts by its real targets, so the result is that of one large batch, also when
    padding is uneven. `surprise(inputs, targets)` is the sum over a batch. Returns the mean loss
    and the number of real targets.
    """
    n_targets = sum(int((targets != IGNORE).sum()) for _, targets in batches)
    if n_targets == 0:
        raise LessonsError("a batch without a single real target", remedy="Look at the data.")
    loss = 0.0
    for inputs, targets in batches:
        part = surprise(inputs, targets) / n_targets
        (part * scale).backward()
        loss += part.item()
    return loss, n_targets


class Trainer:
    """Trains `model` on `batches`, an endless iterable, until step `config.steps`.

    `position` says where the data stands, for checkpoints. `validate()` evaluates the model on
    held-out text. `on_step` gets a `StepReport` after every step: to print, to draw, to save.

    >>> import torch
    >>> from transformer_lessons.presets import preset
    >>> from transformer_lessons.model.decoder import Decoder
    >>> from transformer_lessons.data.batches import random_windows
    >>> batches = random_windows(torch.tensor([97, 98] * 32), context_length=16, batch_size=8)
    >>> reports = Trainer(Decoder(preset("fluctlight")), TrainConfig(steps=2), batches).fit()
    >>> round(reports[0].loss, 1)  # ln 256 = 5.545: it knows nothing yet
    5.5
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        batches: Iterable[Batch],
        on_step: Callable[[StepReport], None] = lambda report: None,
        validate: Callable[[], Evaluation] | None = None,
        position: Position | None = None,
    ) -> None:
        self.model, self.config, self.batches = model, config, batches
        self.on_step, self.validate, self.position = on_step, validate, position
        self.device = next(model.parameters()).device
        self.optimizers = make_optimizers(model, config)
        self.scaler = GradScaler() if config.precision == "fp16" else None
        surprise = partial(batch_surprise, model, loss_chunk_size=config.loss_chunk_size)
        self.surprise = compiled(surprise) if config.compile else surprise
        self.n_steps = 0  # done
        self.best, self.best_step = math.inf, 0  # the lowest validation, and after which step
        self.bad_evals = 0  # looks at the held-out text since then
        self.stop = False  # True: `fit` ends after the present step

    def fit(self) -> list[StepReport]:
        """Train to the end, or until `stop` is set or patience runs out."""
        self.model.train()
        batches, reports = iter(self.batches), []
        while self.n_steps < self.config.steps and not self.stop:
            report = self.step(batches)
            reports.append(report)
            self.on_step(report)
        return reports

    def step(self, batches: Iterator[Batch]) -> StepReport:
        """The next training step, with as many of `batches` as one update takes."""
        config, start = self.config, time.perf_counter()
        learning_rate = learning_rate_at(config, self.n_steps)
        taken = [self.take(batches) for _ in range(config.grad_accum_steps)]
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        with autocast(self.device, config.precision):
            scale = self.scaler.scale if self.scaler else 1.0
            loss, n_targets = accumulate_gradients(self.surprise, taken, scale)
        grad_norm = self.update(loss, learning_rate)
        self.n_steps += 1
        seconds = time.perf_counter() - start
        validation, is_best = self.look_at_held_out()
        return StepReport(
            self.n_steps,
            loss,
            learning_rate,
            grad_norm,
            n_targets,
            seconds,
            validation,
            is_best,
        )

    def take(self, batches: Iterator[Batch]) -> Batch:
        """The next batch, on the model's device."""
        batch = next(batches, None)
        if batch is None:
            remedy = "Give Trainer batches that don't end."
            raise LessonsError("the data is used up", where=self.where, remedy=remedy)
        inputs, targets = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        return inputs, targets

    def update(self, loss: float, learning_rate: float) -> float:
        """Clip the gradients and take the step; returns their length before.

        A loss or a gradient that is not finite raises before anything is changed. Only with a
        scaled loss is such a gradient no more than a step left out.
        """
        self.check_finite("loss", loss)
        parameters = list(self.model.parameters())
        if self.scaler:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad /= self.scaler.scale
        grad_norm = clip_grad_norm(parameters, self.config.max_grad_norm).item()
        if self.scaler:
            self.scaler.update(math.isfinite(grad_norm))
            if not math.isfinite(grad_norm):
                return grad_norm
        self.check_finite("gradient's length", grad_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
        return grad_norm

    def check_finite(self, name: str, value: float) -> None:
        """Raise `LessonsError`, with the step, for infinity and for what is not a number."""
        if not math.isfinite(value):
            remedy = "Lower the learning rate, or look at the data of this step."
            raise LessonsError(f"the {name} is {value}", where=self.where, remedy=remedy)

    @property
    def where(self) -> str:
        """The step that is being taken, for messages."""
        return f"step {self.n_steps + 1}"

    def look_at_held_out(self) -> tuple[float | None, bool]:
        """Evaluate, when it is time to: the loss, and whether it is the lowest so far."""
        every = self.config.eval_every
        if self.validate is None or not every or self.n_steps % every:
            return None, False
        loss = self.validate().loss
        is_best = loss < self.best
        if is_best:
            self.best, self.best_step = loss, self.n_steps
        self.bad_evals = 0 if is_best else self.bad_evals + 1
        if self.bad_evals == self.config.patience > 0:
            self.stop = True
        return loss, is_best
