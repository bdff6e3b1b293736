"""The residual stream: what is on it, who wrote it, what the head would read. Lesson 24."""

from typing import Any

import torch
from torch import Tensor

from transformer_lessons.analysis.activations import _check_index, activations
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference


def residual_streams(model: Decoder, tokens: Tensor) -> Tensor:
    """What blocks 0, 1, … read and what the last one writes: (B, T) -> (n_layers + 1, B, T, D)."""
    seen = activations(model, tokens)
    readers = [*(f"blocks.{layer}" for layer in range(model.config.n_layers)), "final_norm"]
    return torch.stack([seen[reader][0] for reader in readers])


def logit_lens(model: Decoder, tokens: Tensor) -> Tensor:
    """What the head would say at every depth: (B, T) tokens -> (n_layers + 1, B, T, V) logits.

    That is head(final_norm(stream)), for the head has only learned to read normalized streams. The
    last entry is the model's own logits. Source: nostalgebraist 2020, "interpreting GPT".
    """
    with inference(model):
        streams = residual_streams(model, tokens)
        return torch.stack([model.head(model.final_norm(stream)) for stream in streams])


def residual_parts(model: Decoder, tokens: Tensor) -> dict[str, Tensor]:
    """All that is added to the stream, in order: name -> (B, T, D).

    "embedding"; for each block l its heads "l.0", "l.1", …, their "l.bias" if any, and "l.mlp".
    They sum to the last of `residual_streams`, up to rounding. Post-norm models: `LessonsError`.
    """
    if model.config.norm_placement != "pre":
        raise LessonsError("the parts of a post-norm model don't add up", where="norm_placement")
    seen = activations(model, tokens)
    parts = {"embedding": seen["blocks.0"][0]}
    for layer in range(model.config.n_layers):
        out: Any = model.get_submodule(f"blocks.{layer}.attention.out")
        weights = out.weight.detach().chunk(model.config.n_heads, dim=1)
        mixed = seen[f"blocks.{layer}.attention.out"][0].chunk(model.config.n_heads, dim=-1)
        parts |= {f"{layer}.{h}": mixed[h] @ weights[h].T for h in range(model.config.n_heads)}
        if out.bias is not None:
            parts[f"{layer}.bias"] = out.bias.detach().expand_as(parts["embedding"])
        parts[f"{layer}.mlp"] = seen[f"blocks.{layer}.feedforward"][1]
    return parts


def direct_logit_attribution(
    model: Decoder, tokens: Tensor, token: int, position: int = -1
) -> dict[str, Tensor]:
    """What each of `residual_parts` adds to the logit of `token` at `position`: name -> (B,).

    The final norm divides a position by one number. With this number held, the logit is a sum over
    the parts; what belongs to none is in "biases". An unknown token or position: `LessonsError`.
    Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
    """
    _check_index("token", token, model.config.vocab_size)
    _check_index("position", position, tokens.shape[-1])
    named = residual_parts(model, tokens)
    norm: Any = model.final_norm
    with inference(model):
        parts = torch.stack([part[:, position] for part in named.values()])  # (n_parts, B, D)
        centred = parts - parts.mean(-1, keepdim=True) * (model.config.norm == "layer")
        size = (centred.sum(0).square().mean(-1, keepdim=True) + norm.eps).sqrt()  # (B, 1)
        read = parts.lerp(centred / size * norm.weight, norm.scale)  # scale < 1: an adaptive norm
        shares = dict(zip(named, read @ model.head.weight[token], strict=True))
        return shares | {"biases": model.head(norm(0 * parts[0]))[:, token]}
