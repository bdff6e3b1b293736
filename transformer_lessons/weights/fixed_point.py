"""The smallest model in int64 only: a number x is the integer x * 2**F, rounded. Lesson 25."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.attention import causal_mask, merge_heads, split_heads
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.rope import rope_table, rotate
from transformer_lessons.presets import preset

TABLE_BITS = 10  # 2**0, 2**(-1/1024), …, 2**(-1023/1024) are looked up
_FREE = ("vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff", "rope_theta")


class FixedPoint(NamedTuple):
    """A model in integers with `bits` bits of fraction."""

    bits: int
    n_layers: int
    n_heads: int
    tensors: dict[str, Tensor]


def to_fixed(model: Decoder, bits: int) -> FixedPoint:
    """Round weights, RoPE's cosines and sines, and powers of two: the last floats there are.

    Query rows take in log2(e) / sqrt(d), so that scores count in powers of two. Parts that the
    preset fluctlight doesn't have and `bits` with which a sum might overflow raise `LessonsError`.
    """
    config, wide = model.config, torch.float64
    plain = replace(preset("fluctlight"), **{name: getattr(config, name) for name in _FREE})
    odd = [f.name for f in fields(config) if getattr(config, f.name) != getattr(plain, f.name)]
    for name in odd + ["d_model"] * (config.size_scale > 0):  # from width 5 on, norms act
        raise LessonsError(f"this {name} isn't computed in integers", where=f"ModelConfig.{name}")
    if type(bits) is not int or not 1 <= bits <= 30:
        raise LessonsError(f"bits = {bits!r} is not an integer from 1 to 30", where="bits")
    real = {name: x.to(wide, copy=True) for name, x in model.state_dict().items()}
    for name in (name for name in real if ".qkv." in name):
        real[name][: config.d_model] *= math.log2(math.e) / math.sqrt(config.heads.head_dim)
    places = torch.arange(config.context_length, dtype=wide)
    real["cos"], real["sin"] = rope_table(places, config.heads.head_dim, config.rope_theta)
    real["powers"] = 2.0 ** -(torch.arange(2**TABLE_BITS, dtype=wide) / 2**TABLE_BITS)
    real["ln 2"] = torch.tensor(2.0, dtype=wide).log()
    tensors = {name: (x * 2**bits + 0.5).floor().long() for name, x in real.items()}
    fixed = FixedPoint(bits, config.n_layers, config.n_heads, tensors)
    if (bound := largest_sum(fixed)) >= 2**62:
        what = f"with {bits} bits of fraction a sum may reach 2**{math.log2(bound):.1f}"
        raise LessonsError(what, where="bits", remedy="int64 ends at 2**63: use fewer.")
    return fixed


def round_shift(x: Tensor, bits: int | Tensor) -> Tensor:
    """x / 2**bits to the nearest integer, halves upwards: add half, and shift, which rounds down.

    >>> round_shift(torch.tensor([5, 6, 7, -5, -6, -7]), 2).tolist()
    [1, 2, 2, -1, -1, -2]
    """
    return (x + (1 << bits >> 1)) >> bits


def powers_of_two(model: FixedPoint, scores: Tensor) -> Tensor:
    """2**(score - the row's largest) with F bits: at most 1, and 0 for what is far below.

    The exponent's whole part is a shift, the next 10 bits are looked up, and for what is left, r
    below 2**-10, 2**-r is nearly 1 - r ln 2: too small by less than (r ln 2)**2 / 2 < 2.3e-7.
    """
    bits, tensors = model.bits, model.tensors
    below = scores.amax(dim=-1, keepdim=True) - scores
    scaled = (below & ((1 << bits) - 1)) << TABLE_BITS
    rest = round_shift((scaled & ((1 << bits) - 1)) * tensors["ln 2"], bits)
    power = tensors["powers"][scaled >> bits]
    power = power - round_shift(power * rest, bits + TABLE_BITS)
    return round_shift(power, (below >> bits).clamp(max=bits + 2))


def fixed_forward(model: FixedPoint, tokens: Tensor, watch: Callable = lambda sums: None) -> Tensor:
    """Logits (B, T, V) of `tokens` (B, T), with F bits; `watch` gets each sum before rounding."""
    weights, n_tokens = model.tensors, tokens.shape[1]

    def shifted(sums: Tensor) -> Tensor:
        watch(sums)
        return round_shift(sums, model.bits)

    def linear(name: str, x: Tensor) -> Tensor:
        return shifted(x @ weights[f"{name}.weight"].T) + weights[f"{name}.bias"]

    x, rope = weights["embedding.weight"][tokens], [weights[f][:n_tokens] for f in ("cos", "sin")]
    for block in (f"blocks.{layer}" for layer in range(model.n_layers)):
        qkv = linear(f"{block}.attention.qkv", x).chunk(3, dim=-1)
        q, k, v = (split_heads(part, model.n_heads) for part in qkv)
        q, k = shifted(rotate(q, *rope)), shifted(rotate(k, *rope))
        scores = shifted(q @ k.mT).masked_fill(~causal_mask(n_tokens), -(2**62))
        powers = powers_of_two(model, scores)
        total = powers.sum(dim=-1, keepdim=True)
        watch(sums := 2 * (powers @ v) + total)
        mixed = sums.div(2 * total, rounding_mode="floor")  # to the nearest, as in `round_shift`
        x = x + linear(f"{block}.attention.out", merge_heads(mixed))
        hidden = linear(f"{block}.feedforward.up", x).clamp(min=0)
        x = x + linear(f"{block}.feedforward.down", hidden)
    return linear("head", x)


def largest_sum(model: FixedPoint) -> float:
    """A bound on every sum: each step with absolute weights, on the largest input there can be."""
    one, n_tokens = 2.0**model.bits, len(model.tensors["cos"])
    size = {name: tensor.abs().double() for name, tensor in model.tensors.items()}
    sums = [torch.tensor(2 * one**2)]

    def linear(name: str, x: Tensor) -> Tensor:
        sums.append(size[f"{name}.weight"] @ x)
        return sums[-1] / one + 1 + size[f"{name}.bias"]

    x = size["embedding.weight"].amax(dim=0)
    for block in (f"blocks.{layer}" for layer in range(model.n_layers)):
        q, k, v = linear(f"{block}.attention.qkv", x).view(3, model.n_heads, 2, -1)
        q, k = (y.sum(dim=1, keepdim=True).expand_as(y) + 1 for y in (q, k))  # |x1| + |x2|
        sums += [one * q, one * k, (q * k).sum(dim=(1, 2)), (2 * v + 1) * n_tokens * one]
        x = x + linear(f"{block}.attention.out", v.flatten())  # an average is no larger
        x = x + linear(f"{block}.feedforward.down", linear(f"{block}.feedforward.up", x))
    linear("head", x)
    return max(y.max().item() for y in sums)
