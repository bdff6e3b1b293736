"""The training step: what each contestant does. Every function here returns a `Work`.

A run is a few steps from the same weights on the same batches: take a batch, forward, backward,
clip the gradients to length 1, AdamW with decay for the matrices. The description holds the loss
and the gradient's length of every step. Imports are inside the functions: a process loads only the
program that it measures.
"""

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.models import huggingface_model, litgpt_model, our_model
from benchmarks.training_model import Shape, batches_of, shape_of, starting_weights
from benchmarks.worker import Work

LEARNING_RATE, WEIGHT_DECAY, BETAS, CLIP = 1e-3, 0.1, (0.9, 0.95), 1.0
TOLERANCE = {"fp32": 1e-4, "bf16": 1e-2}  # relative: how far figures of the same work are apart


def same_steps(expected: list[float], found: list[float], tolerance: float) -> bool:
    """Whether all losses and lengths agree to a share of `tolerance`.

    >>> same_steps([8.0, 1.0], [8.001, 1.0], 1e-3), same_steps([8.0, 1.0], [8.0, 1.1], 1e-3)
    (True, False)
    """
    pairs = zip(expected, found, strict=True)
    return all(abs(a - b) <= tolerance * abs(a) for a, b in pairs)


def ours(size: str, kind: str, **how: Any) -> Work:
    """`Decoder` and `Trainer.step`, as `fit` calls it; the rest is as for `step_of`."""
    return step_of(shape_of(size, kind), **how)


def step_of(
    shape: Shape,
    precision: str,
    compiled: bool,
    n_steps: int,
    attention: str = "batched_attend",
    loss_chunk_size: int | None = None,
) -> Work:
    """`Decoder` and `Trainer.step` for a model of any shape."""
    from transformer_lessons.training.config import TrainConfig
    from transformer_lessons.training.trainer import Trainer

    config = TrainConfig(
        steps=2**30,
        schedule="constant",
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        beta1=BETAS[0],
        beta2=BETAS[1],
        max_grad_norm=CLIP,
        precision=precision,
        compile=compiled,
        fused=True,
        loss_chunk_size=loss_chunk_size,
    )
    weights = starting_weights(shape)
    model = our_model(shape, weights, attention)
    weights["head.weight"] = weights["embedding.weight"]
    trainer = Trainer(model.train(), config, batches_of(shape))

    def run() -> list[float]:
        batches = batches_of(shape)
        reports = [trainer.step(batches) for _ in range(n_steps)]
        return [figure for report in reports for figure in (report.loss, report.grad_norm)]

    return Work(run, list, lambda: start_again(model, weights, trainer.optimizers[0]))


def start_again(
    model: nn.Module, weights: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """The weights of the beginning, and the optimizer's memory empty."""
    model.load_state_dict(weights)
    for state in optimizer.state.values():
        for tensor in state.values():
            tensor.zero_()


def peer(
    model: nn.Module,
    logits_of: Callable[[Tensor], Tensor],
    weights: dict[str, Tensor],
    size: str,
    kind: str,
    precision: str,
    compiled: bool,
    n_steps: int,
) -> Work:
    """A step as nanoGPT's loop takes it, with PyTorch's own loss, clipping and fused AdamW.

    The loss is compiled together with the model.
    """
    model.train()
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, fused=True)

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits_of(inputs).flatten(0, 1), targets.flatten())

    compute_loss = torch.compile(loss_of) if compiled else loss_of
    is_narrow = precision == "bf16"
    narrow = torch.autocast("cpu", torch.bfloat16) if is_narrow else contextlib.nullcontext()

    def run() -> list[float]:
        batches, figures = batches_of(shape_of(size, kind)), []
        for _ in range(n_steps):
            inputs, targets = next(batches)
            optimizer.zero_grad()
            with narrow:
                loss = compute_loss(inputs, targets)
            loss.backward()
            length = nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            figures += [loss.item(), length.item()]
        return figures

    return Work(run, list, lambda: start_again(model, weights, optimizer))


def huggingface(size: str, kind: str, attention: str = "sdpa", **how: Any) -> Work:
    """`GPT2LMHeadModel` (in place of nanoGPT, the same architecture) or `LlamaForCausalLM`."""
    shape = shape_of(size, kind)
    model = huggingface_model(shape, starting_weights(shape), attention)
    weights = copy.deepcopy(model.state_dict())

    def logits_of(inputs: Tensor) -> Tensor:
        return model(input_ids=inputs, use_cache=False).logits

    return peer(model, logits_of, weights, size, kind, **how)


def litgpt(size: str, kind: str, **how: Any) -> Work:
    """LitGPT's `GPT`, configured as a Llama; in an environment of its own."""
    shape = shape_of(size, kind)
    model = litgpt_model(shape, starting_weights(shape))
    weights = copy.deepcopy(model.state_dict())
    return peer(model, model, weights, size, kind, **how)
