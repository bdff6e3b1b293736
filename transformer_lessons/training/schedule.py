"""How the learning rate changes over a run: up in a straight line, then down. Lesson 12."""

import math
from collections.abc import Callable

from transformer_lessons.training.config import TrainConfig


def cosine_schedule(
    step: int, max_lr: float, min_lr: float, warmup_steps: int, total_steps: int
) -> float:
    """The learning rate at `step`: a straight climb to `max_lr`, then half a cosine to `min_lr`.

    Steps count from 0. The one peak is at step `warmup_steps`; from step `total_steps - 1` on, the
    rate is `min_lr`. The climb begins at max_lr / (warmup_steps + 1), as in nanoGPT: from 0, where
    it begins in transformers, the first batch would be read and nothing learned from it.
    Source: Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts".

    >>> [cosine_schedule(step, 1.0, 0.0, warmup_steps=1, total_steps=4) for step in range(5)]
    [0.5, 1.0, 0.5, 0.0, 0.0]
    """
    if step < warmup_steps:
        return max_lr * (step + 1) / (warmup_steps + 1)
    progress = min((step - warmup_steps) / max(total_steps - 1 - warmup_steps, 1), 1.0)
    return min_lr + (max_lr - min_lr) * (1 + math.cos(math.pi * progress)) / 2


def constant_schedule(
    step: int, max_lr: float, min_lr: float, warmup_steps: int, total_steps: int
) -> float:
    """The learning rate at `step`: a straight climb to `max_lr`, and `max_lr` from then on.

    >>> [constant_schedule(step, 1.0, 0.0, warmup_steps=2, total_steps=4) for step in range(4)]
    [0.3333333333333333, 0.6666666666666666, 1.0, 1.0]
    """
    return max_lr * min((step + 1) / (warmup_steps + 1), 1.0)


def wsd_schedule(
    step: int, max_lr: float, min_lr: float, warmup_steps: int, total_steps: int
) -> float:
    """Warm-up, stable, decay: climb, stay at `max_lr`, and fall to `min_lr` in the last fifth.

    The fall is 1 - sqrt(progress), steep at first; the last step is at `min_lr`, and so is any
    after it. Until the fall begins, nothing depends on where the run will end: a checkpoint can
    always be trained on.
    Sources: Hu et al. 2024, "MiniCPM"; Hägele et al. 2024, "Scaling Laws and Compute-Optimal
    Training Beyond Fixed Training Durations", section 3, for the shape of the fall.

    >>> [round(wsd_schedule(step, 1.0, 0.0, 1, total_steps=20), 2) for step in (0, 1, 16, 17, 19)]
    [0.5, 1.0, 0.5, 0.29, 0.0]
    """
    if step < warmup_steps:
        return max_lr * (step + 1) / (warmup_steps + 1)
    n_falling = max(round(total_steps / 5), 1)
    progress = min(max((step - (total_steps - 1 - n_falling)) / n_falling, 0.0), 1.0)
    return min_lr + (max_lr - min_lr) * (1 - math.sqrt(progress))


SCHEDULES: dict[str, Callable[[int, float, float, int, int], float]] = {
    "cosine": cosine_schedule,
    "constant": constant_schedule,
    "wsd": wsd_schedule,
}


def learning_rate_at(config: TrainConfig, step: int) -> float:
    """The learning rate of step `step`, counted from 0, as `config` plans it.

    >>> learning_rate_at(TrainConfig(learning_rate=0.005, warmup_steps=4), step=0)
    0.001
    """
    sizes = config.warmup_steps, config.steps
    return SCHEDULES[config.schedule](step, config.learning_rate, config.min_learning_rate, *sizes)
