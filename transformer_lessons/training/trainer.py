"""The training loop: look at a batch, measure the loss, nudge every parameter, repeat. Lesson 13.

`Trainer` knows no tokenizer, no file and no terminal: what it is given are batches and callables.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.compilation import compiled
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.training.clipping import clip_grad_norm
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import Evaluation
from transformer_lessons.training.loss import cross_entropy, linear_cross_entropy
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
    skipped: bool = False  # float16: the gradient was not finite, and nothing was changed


class Stateful(Protocol):
    """What can say where it stands, and go on from there: the batches of a run, for example."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def batch_loss(
    model: Decoder, inputs: Tensor, targets: Tensor, chunk_size: int | None = None
) -> Tensor:
    """The sum of the cross-entropy over all real targets of one batch, in nats.

    With `chunk_size`, head and loss are computed for so many tokens at a time.
    """
    if chunk_size is None:
        return cross_entropy(model(inputs), targets, reduction="sum")
    head, hidden_states = model.head, model.hidden_states(inputs)
    return linear_cross_entropy(hidden_states, head.weight, head.bias, targets, chunk_size)


def accumulate_gradients(
    sum_of_losses: Callable[[Tensor, Tensor], Tensor], batches: Sequence[Batch], scale: float = 1.0
) -> tuple[float, int]:
    """Add to the gradients those of `scale` times the mean loss over all `batches` together.

    Each batch counts by its real targets, so the result is that of one large batch, also when
    padding is uneven. `sum_of_losses(inputs, targets)` is the sum over a batch. Returns the mean
    loss and the number of real targets.
    """
    n_targets = sum(int((targets != IGNORE).sum()) for _, targets in batches)
    if n_targets == 0:
        raise LessonsError("a batch without a single real target", remedy="Look at the data.")
    loss: Tensor | float = 0.0
    for inputs, targets in batches:
        part = sum_of_losses(inputs, targets) / n_targets
        (part * scale).backward()
        loss = loss + part.detach()
    return float(loss), n_targets  # on a GPU, only here the program waits for the result


class Trainer:
    """Trains `model` on `batches`, an endless iterable, until step `config.steps`.

    `on_step` gets a `StepReport` after every step: to print, to draw, to save. `evaluate()` is the
    evaluation on held-out text. `data_state` says where the data stands, for checkpoints.

    >>> import torch
    >>> from transformer_lessons.presets import preset
    >>> from transformer_lessons.data.batches import random_windows
    >>> batches = random_windows(torch.tensor([97, 98] * 32), context_length=16, batch_size=8)
    >>> reports = Trainer(Decoder(preset("fluctlight")), TrainConfig(steps=2), batches).fit()
    >>> round(reports[0].loss, 1)  # ln 256 = 5.545: it knows nothing yet
    5.5
    """

    def __init__(
        self,
        model: Decoder,
        config: TrainConfig,
        batches: Iterable[Batch],
        on_step: Callable[[StepReport], None] = lambda report: None,
        evaluate: Callable[[], Evaluation] | None = None,
        data_state: Stateful | None = None,
    ) -> None:
        self.model, self.config, self.batches = model, config, batches
        self.on_step, self.evaluate, self.data_state = on_step, evaluate, data_state
        self.device = next(model.parameters()).device
        self.optimizers = make_optimizers(model, config)
        self.scaler = GradScaler() if config.precision == "fp16" else None
        loss = partial(batch_loss, model, chunk_size=config.loss_chunk_size)
        self.batch_loss = compiled(loss) if config.compile else loss
        self.n_steps = 0  # done
        self.best, self.best_step = math.inf, 0  # the lowest validation, and after which step
        self.bad_evals = 0  # evaluations since then
        self.stop = False  # True: `fit` ends after the present step

    def fit(self) -> list[StepReport]:
        """Train to the end, or until `stop` is set or patience runs out."""
        self.model.train()
        batches, reports = iter(self.batches), []
        while self.n_steps < self.config.steps and not self.should_stop():
            report = self.step(batches)
            reports.append(report)
            self.on_step(report)
        return reports

    def step(self, batches: Iterator[Batch]) -> StepReport:
        """The next training step, with as many of `batches` as one update takes."""
        start, rate = time.perf_counter(), learning_rate_at(self.config, self.n_steps)
        taken = [self.take(batches) for _ in range(self.config.grad_accum_steps)]
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss, n_targets = self.gradients(taken)
        grad_norm = self.update(loss, rate)
        self.n_steps += 1
        did = self.n_steps, loss, rate, grad_norm, n_targets, time.perf_counter() - start
        return StepReport(*did, *self.validate(), skipped=not math.isfinite(grad_norm))

    def should_stop(self) -> bool:
        """Whether `fit` ends before its last step."""
        return self.stop

    def gradients(self, batches: Sequence[Batch]) -> tuple[float, int]:
        """Make the gradients of one update; returns the mean loss and the number of targets."""
        scale = self.scaler.scale if self.scaler else 1.0
        return accumulate_gradients(self.sum_of_losses, batches, scale)

    def sum_of_losses(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """`batch_loss` in the run's precision; the backward pass is outside of autocast."""
        with autocast(self.device, self.config.precision):
            return self.batch_loss(inputs, targets)

    def take(self, batches: Iterator[Batch]) -> Batch:
        """The next batch, on the model's device."""
        batch = next(batches, None)
        if batch is None:
            where, remedy = f"step {self.n_steps + 1}", "Give Trainer batches that don't end."
            raise LessonsError("the data is used up", where=where, remedy=remedy)
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
            self.scaler.unscale(parameters)
        grad_norm = clip_grad_norm(parameters, self.config.max_grad_norm).item()
        if self.scaler:
            self.scaler.update(math.isfinite(grad_norm))
            if not math.isfinite(grad_norm):
                return grad_norm
        self.check_finite("gradient norm", grad_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
        return grad_norm

    def check_finite(self, name: str, value: float) -> None:
        """Raise `LessonsError`, with the step, for infinity and for what is not a number."""
        if not math.isfinite(value):
            where = f"step {self.n_steps + 1}"
            remedy = "Lower the learning rate, or look at the data of this step."
            raise LessonsError(f"the {name} is {value}", where=where, remedy=remedy)

    def validate(self) -> tuple[float | None, bool]:
        """Evaluate, when it is time to: the loss, and whether it is the lowest so far."""
        every = self.config.eval_every
        if self.evaluate is None or not every or self.n_steps % every:
            return None, False
        loss = self.evaluate().loss
        is_best = loss < self.best
        if is_best:
            self.best, self.best_step = loss, self.n_steps
        self.bad_evals = 0 if is_best else self.bad_evals + 1
        if self.bad_evals == self.config.patience > 0:
            self.stop = True
        return loss, is_best
