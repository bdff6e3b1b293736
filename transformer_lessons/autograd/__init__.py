"""Gradients from scratch: a tape, and a check of it by finite differences."""

from transformer_lessons.autograd.tape import Node, checkpoint, gradient_error, numerical_gradient

__all__ = ["Node", "checkpoint", "gradient_error", "numerical_gradient"]
