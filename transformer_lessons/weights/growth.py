"""Growing a trained model: it becomes larger, and computes the same up to rounding. Lesson 25.

What is new reads at random (`torch.manual_seed`) and writes zeros, so that it changes nothing and
can learn. Shapes: D numbers per token before, D' after.
Sources: Chen et al. 2015, "Net2Net"; Wang et al. 2024, "LEMON: Lossless Model Expansion".
"""

import copy
from dataclasses import replace
from typing import Any

import torch

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.state_dict import own_tensors

_WRITERS = ("embedding", "attention.out", "feedforward.down")  # what adds to the residual stream
_READERS = ("attention.qkv", "feedforward.gate", "feedforward.up", "head")  # what reads a norm


def deepen(model: Decoder, at: int) -> Decoder:
    """One block more, number `at`: a copy of the one that was there (or last) that adds nothing.

    Its `out` and `down` are zero, so it passes on what comes in, to the bit. In a post-norm model
    it would still normalize: `LessonsError`.
    """
    config = model.config
    if type(at) is not int or not 0 <= at <= config.n_layers:
        raise LessonsError(f"at = {at!r} is not an integer from 0 to {config.n_layers}", where="at")
    _refuse(norm_placement=config.norm_placement == "post")
    grown = copy.deepcopy(model)
    block = copy.deepcopy(model.blocks[min(at, config.n_layers - 1)])
    for name, tensor in block.state_dict().items():
        if name.startswith(_WRITERS):
            tensor.zero_()
    grown.blocks.insert(at, block)
    grown.config = replace(config, n_layers=config.n_layers + 1)
    return grown


def widen_feedforward(model: Decoder, d_ff: int) -> Decoder:
    """`d_ff` hidden units in every block; the new ones read at random, and write zeros."""
    return _grown(model, zero=("feedforward.down",), d_ff=d_ff)


def widen_residual(model: Decoder, d_model: int) -> Decoder:
    """D' = `d_model` numbers per token; new ones are 0 or, for LayerNorm, the mean of the old.

    Then mean(x²), or the variance, shrinks by D/D', and a norm gives the same with eps * D/D' and
    gain * sqrt(D/D'). An adaptive norm of scale s before and s' < 1 after gives
    (1 - s') x + s' norm(x): gain and bias take the factor s / (s' c), and what reads the norm takes
    c = (1 - s) / (1 - s'). What has no such solution raises `LessonsError`, naming the field.
    """
    old = model.config
    sizes: dict[str, Any] = {"d_model": d_model, "head_dim": old.heads.head_dim}
    shrink = old.d_model / replace(old, **sizes).d_model  # which checks d_model
    sizes["norm_eps"] = old.norm_eps * shrink
    s, new_s = (c.size_scale if c.adaptive_norm else 1.0 for c in (old, replace(old, **sizes)))
    _refuse(norm_placement=old.norm_placement == "post", position=old.position == "sinusoidal")
    _refuse(qk_norm=old.qk_norm, scale_embeddings=old.scale_embeddings)
    _refuse(adaptive_norm=s < new_s == 1, tie_embeddings=s < new_s and old.tie_embeddings)
    c = (1 - s) / (1 - new_s) if s < 1 else 1.0
    factor = s / (new_s * c) if s < 1 else 1.0
    reads_mean = s < 1 and old.norm == "layer"  # x goes past the norm: readers see the mean
    grown = _grown(model, _WRITERS + _READERS if reads_mean else _WRITERS, **sizes)
    with torch.no_grad():
        for name, tensor in grown.named_parameters():
            part, _, kind = name.rpartition(".")
            if part.endswith("norm"):
                tensor[: old.d_model].mul_(factor * (shrink**0.5 if kind == "weight" else 1.0))
            elif part.endswith(_READERS) and kind == "weight":
                tensor.mul_(c)
            elif part.endswith(_WRITERS) and old.norm == "layer":
                rows = tensor.T if part.endswith("embedding") else tensor  # (D', …)
                rows[old.d_model :] = rows[: old.d_model].mean(dim=0)
    return grown


def _refuse(**fields: bool) -> None:
    """Raise `LessonsError` naming the first field of a config that can't be grown."""
    for field in (field for field, is_odd in fields.items() if is_odd):
        raise LessonsError(f"this {field} can't be grown in this way", where=f"ModelConfig.{field}")


def _grown(model: Decoder, zero: tuple[str, ...], **sizes: Any) -> Decoder:
    """A larger Decoder with the numbers of `model` in the first rows and columns of each tensor."""
    block: Any = model.blocks[0]
    grown = Decoder(replace(model.config, **sizes), block.attention.attend).to(model.head.weight)
    for name, size in sizes.items():
        if name.startswith("d_") and size < (before := getattr(model.config, name)):
            what, where = f"{name} = {size} is less than {before}", f"ModelConfig.{name}"
            raise LessonsError(what, where=where)
    with torch.no_grad():
        for name, old in own_tensors(model).items():
            new = grown.get_parameter(name)
            if name.rpartition(".")[0].endswith(zero):
                new.zero_()
            new[tuple(map(slice, old.shape))] = old
    return grown.train(model.training)
