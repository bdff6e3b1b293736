"""`torch.compile`: PyTorch records what a function does, and makes a program of it. Lesson 13."""

import warnings
from collections.abc import Callable
from typing import Any

import torch


def compiled(function: Callable, **how: Any) -> Callable:
    """`torch.compile(function, **how)`, without the warnings that importing the compiler brings."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return torch.compile(function, **how)
