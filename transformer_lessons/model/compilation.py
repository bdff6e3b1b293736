"""`torch.compile`: PyTorch records what a function does, and makes a program of it. Lesson 13."""

import warnings
from collections.abc import Callable
from typing import Any

import torch


def compiled(function: Callable, **how: Any) -> Callable:
    """`torch.compile(function, **how)`, also where a warning is an error.

    The compiler, which is imported by this, uses what PyTorch itself calls deprecated.
    """
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return torch.compile(function, **how)
