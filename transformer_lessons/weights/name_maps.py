"""What each tensor of the book's decoder is called in the files of other families.

`load_pretrained` reads these maps from left to right, `save_pretrained` from right to left.
"""

import re
from collections.abc import Callable, Iterable

import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.weights.assemble import NameMap, Source

LLAMA_BLOCK = {  # Llama, Mistral, Qwen2, Qwen3; the norms of queries and keys are Qwen3's
    "attention_norm": ["input_layernorm"],
    "attention.qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "attention.q_norm": ["self_attn.q_norm"],
    "attention.k_norm": ["self_attn.k_norm"],
    "attention.out": ["self_attn.o_proj"],
    "feedforward_norm": ["post_attention_layernorm"],
    "feedforward.gate": ["mlp.gate_proj"],
    "feedforward.up": ["mlp.up_proj"],
    "feedforward.down": ["mlp.down_proj"],
}
GPT2_BLOCK = {  # its c_attn holds queries, keys and values, as ours does
    "attention_norm": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "feedforward_norm": "ln_2",
    "feedforward.up": "mlp.c_fc",
    "feedforward.down": "mlp.c_proj",
}
# Tensors that hold no weights: GPT-2's causal masks, and the speeds of RoPE, which are computed.
NO_WEIGHTS = re.compile(
    r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias|model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
)


def llama_names(config: ModelConfig) -> NameMap:
    """The names of Llama, Mistral, Qwen2 and Qwen3; queries, keys and values are stacked.

    >>> from transformer_lessons.presets import preset
    >>> [source.name for source in llama_names(preset("llama"))["blocks.0.attention.qkv.weight"]]
    ['model.layers.0.self_attn.q_proj.weight', 'model.layers.0.self_attn.k_proj.weight', \
'model.layers.0.self_attn.v_proj.weight']
    """
    qkv_bias = config.bias if config.qkv_bias is None else config.qkv_bias
    has_bias = dict.fromkeys(LLAMA_BLOCK, config.bias) | {"attention.qkv": qkv_bias}
    has_bias |= {name: False for name in LLAMA_BLOCK if name.endswith("norm")}
    names = {"embedding.weight": [Source("model.embed_tokens.weight")]}
    for i in range(config.n_layers):
        for ours, theirs in LLAMA_BLOCK.items():
            if ours in ("attention.q_norm", "attention.k_norm") and not config.qk_norm:
                continue
            for kind in ("weight", "bias") if has_bias[ours] else ("weight",):
                sources = [Source(f"model.layers.{i}.{name}.{kind}") for name in theirs]
                names[f"blocks.{i}.{ours}.{kind}"] = sources
    names["final_norm.weight"] = [Source("model.norm.weight")]
    if not config.tie_embeddings:
        names["head.weight"] = [Source("lm_head.weight")]
    return names


def gpt2_names(config: ModelConfig, prefix: str = "transformer.") -> NameMap:
    """The names of GPT-2; its matrices (but not its tables) are stored transposed.

    Some files, OpenAI's own among them, leave the `prefix` out.

    >>> from transformer_lessons.presets import preset
    >>> gpt2_names(preset("gpt2"), prefix="")["blocks.0.feedforward.up.weight"][0].name
    'h.0.mlp.c_fc.weight'
    """
    names = {
        "embedding.weight": [Source(f"{prefix}wte.weight")],
        "position_embedding.weight": [Source(f"{prefix}wpe.weight")],
    }
    for i in range(config.n_layers):
        for ours, theirs in GPT2_BLOCK.items():
            for kind in ("weight", "bias"):
                is_matrix = kind == "weight" and not ours.endswith("norm")
                source = Source(f"{prefix}h.{i}.{theirs}.{kind}", torch.t if is_matrix else None)
                names[f"blocks.{i}.{ours}.{kind}"] = [source]
    for kind in ("weight", "bias"):
        names[f"final_norm.{kind}"] = [Source(f"{prefix}ln_f.{kind}")]
    if not config.tie_embeddings:
        names["head.weight"] = [Source("lm_head.weight")]
    return names


def names_of(family: str, file_names: Iterable[str]) -> Callable[[ModelConfig], NameMap]:
    """The name map of a family, as the names in a file have it: with GPT-2's prefix or without."""
    if family != "gpt2":
        return llama_names
    has_prefix = any(name.startswith("transformer.") for name in file_names)
    return gpt2_names if has_prefix else lambda config: gpt2_names(config, prefix="")
