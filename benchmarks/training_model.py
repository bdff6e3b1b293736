"""The models and batches of the training benchmark, in torch alone: all contestants start alike.

Names are those of the book's `Decoder`; `in_words_of` translates them for a peer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

N_BATCHES = 4  # different ones, taken in turn


@dataclass(frozen=True)
class Shape:
    """A model and a batch. `kind` is "gpt" or "llama"; embedding and head share one matrix."""

    kind: str
    vocab_size: int
    context_length: int
    d_model: int
    n_layers: int
    n_heads: int
    batch_size: int

    @property
    def d_ff(self) -> int:
        """4 x d_model; gated, three matrices of the same size in all (a multiple of 32)."""
        return 4 * self.d_model if self.kind == "gpt" else 8 * self.d_model // 3 // 32 * 32

    @property
    def n_tokens(self) -> int:
        """How many tokens a step learns from."""
        return self.batch_size * self.context_length

    def flops(self) -> int:
        """Operations of the matrix products of a step: 2 forward and 4 backward per number.

        Attention is counted whole, as both programs compute it, with the half that is masked.
        """
        n_up = 1 if self.kind == "gpt" else 2
        block = 4 * self.d_model**2 + (n_up + 1) * self.d_model * self.d_ff
        scores = 2 * self.context_length * self.d_model
        per_token = self.n_layers * (block + scores) + self.d_model * self.vocab_size
        return 6 * per_token * self.n_tokens


SIZES = {
    "S": (4_096, 128, 128, 4, 4, 32),
    "M": (100_277, 128, 256, 6, 4, 16),
    "tiny": (65, 8, 16, 2, 2, 3),
}


def shape_of(size: str, kind: str) -> Shape:
    """The shape of a size, as one of the two kinds.

    >>> shape_of("S", "gpt").n_tokens
    4096
    """
    return Shape(kind, *SIZES[size])


def starting_weights(shape: Shape) -> dict[str, Tensor]:
    """Every parameter: matrices ~ N(0, 0.02²), biases 0, weights of norms 1; always the same."""
    random = torch.Generator().manual_seed(0)
    d_model, has_bias = shape.d_model, shape.kind == "gpt"
    weights = {}

    def matrix(name: str, n_out: int, n_in: int, bias: bool = has_bias) -> None:
        weights[f"{name}.weight"] = torch.randn(n_out, n_in, generator=random) * 0.02
        if bias:
            weights[f"{name}.bias"] = torch.zeros(n_out)

    def norm(name: str) -> None:
        weights[f"{name}.weight"] = torch.ones(d_model)
        if has_bias:
            weights[f"{name}.bias"] = torch.zeros(d_model)

    matrix("embedding", shape.vocab_size, d_model, bias=False)
    if shape.kind == "gpt":
        matrix("position_embedding", shape.context_length, d_model, bias=False)
    for block in (f"blocks.{i}." for i in range(shape.n_layers)):
        norm(f"{block}attention_norm")
        matrix(f"{block}attention.qkv", 3 * d_model, d_model)
        matrix(f"{block}attention.out", d_model, d_model)
        norm(f"{block}feedforward_norm")
        for name in ("up",) if shape.kind == "gpt" else ("gate", "up"):
            matrix(f"{block}feedforward.{name}", shape.d_ff, d_model)
        matrix(f"{block}feedforward.down", d_model, shape.d_ff)
    norm("final_norm")
    return weights


# What each peer calls the parts, longest names first.
WORDS = {
    "gpt2": {
        "position_embedding": "transformer.wpe",
        "feedforward_norm": "ln_2",
        "feedforward.down": "mlp.c_proj",
        "feedforward.up": "mlp.c_fc",
        "attention_norm": "ln_1",
        "attention.qkv": "attn.c_attn",
        "attention.out": "attn.c_proj",
        "final_norm": "transformer.ln_f",
        "embedding": "transformer.wte",
        "blocks": "transformer.h",
    },
    "llama": {
        "feedforward_norm": "post_attention_layernorm",
        "feedforward.": "mlp.",
        "attention_norm": "input_layernorm",
        "attention.out": "self_attn.o_proj",
        "final_norm": "model.norm",
        "embedding": "model.embed_tokens",
        "blocks": "model.layers",
        **{f"{name}.weight": f"{name}_proj.weight" for name in ("gate", "up", "down")},
    },
    "litgpt": {
        "feedforward_norm": "norm_2",
        "feedforward.gate": "mlp.fc_1",
        "feedforward.up": "mlp.fc_2",
        "feedforward.down": "mlp.proj",
        "attention_norm": "norm_1",
        "attention.qkv": "attn.qkv",
        "attention.out": "attn.proj",
        "final_norm": "transformer.ln_f",
        "embedding": "transformer.wte",
        "blocks": "transformer.h",
    },
}


def in_words_of(peer: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """`weights` under the names of a peer, and laid out as it wants them."""
    found = {}
    for name, tensor in weights.items():
        if peer == "llama" and name.endswith("attention.qkv.weight"):
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                place = name.replace("blocks", "model.layers").replace("attention.qkv", "self_attn")
                found[place.replace("weight", f"{letter}_proj.weight")] = part.clone()
            continue
        for ours, theirs in WORDS[peer].items():
            name = name.replace(ours, theirs)
        # GPT-2 keeps the matrices of its blocks the other way round, inputs by outputs.
        turned = peer == "gpt2" and ".h." in name and tensor.ndim == 2
        found[name] = tensor.T.contiguous() if turned else tensor.clone()
    return found


def batches_of(shape: Shape) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless inputs and targets, (B, T) each: random tokens, each predicted from those before."""
    random = torch.Generator().manual_seed(1)
    size = (N_BATCHES, shape.batch_size, shape.context_length + 1)
    tokens = torch.randint(shape.vocab_size, size, generator=random)
    while True:
        for batch in tokens:
            yield batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
