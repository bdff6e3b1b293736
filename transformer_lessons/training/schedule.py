"""How the learning rate changes over a run."""

import math


def cosine_schedule(
    step: int, max_lr: float, min_lr: float, warmup_steps: int, total_steps: int
) -> float:
    """The learning rate at `step`: a straight climb to `max_lr`, then half a cosine to `min_lr`.

    Steps count from 0. The climb takes `warmup_steps` and ends exactly at `max_lr`; the last step,
    `total_steps - 1`, is exactly at `min_lr`.
    Source: Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts".

    >>> [cosine_schedule(step, 1.0, 0.0, warmup_steps=2, total_steps=5) for step in range(5)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup_steps:
        return max_lr * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - 1 - warmup_steps, 1)
    return min_lr + (max_lr - min_lr) * (1 + math.cos(math.pi * progress)) / 2
