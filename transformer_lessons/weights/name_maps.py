"""What each tensor of the book's decoder is called in the files of other programs. Lesson 20.

`load_pretrained` reads these maps from left to right, `save_pretrained` from right to left. A map
names modules; which of them there are, and which have a bias, the decoder itself knows.
Sources: transformers' modeling_llama.py and modeling_gpt2.py; llama.cpp's
gguf-py/gguf/tensor_mapping.py, and `permute` in its convert_hf_to_gguf.py.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.rope import to_split_layout
from transformer_lessons.model.state_dict import own_tensors
from transformer_lessons.weights.assemble import NameMap, Source

LLAMA = {  # Llama, Mistral, Qwen2, Qwen3; N is the number of the block
    "embedding": ["model.embed_tokens"],
    "blocks.N.attention_norm": ["model.layers.N.input_layernorm"],
    "blocks.N.attention.qkv": [f"model.layers.N.self_attn.{letter}_proj" for letter in "qkv"],
    "blocks.N.attention.q_norm": ["model.layers.N.self_attn.q_norm"],
    "blocks.N.attention.k_norm": ["model.layers.N.self_attn.k_norm"],
    "blocks.N.attention.out": ["model.layers.N.self_attn.o_proj"],
    "blocks.N.feedforward_norm": ["model.layers.N.post_attention_layernorm"],
    "blocks.N.feedforward.gate": ["model.layers.N.mlp.gate_proj"],
    "blocks.N.feedforward.up": ["model.layers.N.mlp.up_proj"],
    "blocks.N.feedforward.down": ["model.layers.N.mlp.down_proj"],
    "final_norm": ["model.norm"],
    "head": ["lm_head"],
}
GPT2 = {  # its c_attn holds queries, keys and values, as ours does
    "embedding": ["wte"],
    "position_embedding": ["wpe"],
    "blocks.N.attention_norm": ["h.N.ln_1"],
    "blocks.N.attention.qkv": ["h.N.attn.c_attn"],
    "blocks.N.attention.out": ["h.N.attn.c_proj"],
    "blocks.N.feedforward_norm": ["h.N.ln_2"],
    "blocks.N.feedforward.up": ["h.N.mlp.c_fc"],
    "blocks.N.feedforward.down": ["h.N.mlp.c_proj"],
    "final_norm": ["ln_f"],
    "head": ["lm_head"],
}
GGUF = {
    "embedding": ["token_embd"],
    "position_embedding": ["position_embd"],
    "blocks.N.attention_norm": ["blk.N.attn_norm"],
    "blocks.N.attention.qkv": ["blk.N.attn_q", "blk.N.attn_k", "blk.N.attn_v"],
    "blocks.N.attention.q_norm": ["blk.N.attn_q_norm"],
    "blocks.N.attention.k_norm": ["blk.N.attn_k_norm"],
    "blocks.N.attention.out": ["blk.N.attn_output"],
    "blocks.N.feedforward_norm": ["blk.N.ffn_norm"],
    "blocks.N.feedforward.gate": ["blk.N.ffn_gate"],
    "blocks.N.feedforward.up": ["blk.N.ffn_up"],
    "blocks.N.feedforward.down": ["blk.N.ffn_down"],
    "final_norm": ["output_norm"],
    "head": ["output"],
}


def map_names(config: ModelConfig, modules: Mapping[str, Sequence[str]]) -> NameMap:
    """Which tensors make each of ours, from a table of modules like `LLAMA`.

    >>> from transformer_lessons.presets import preset
    >>> names = map_names(preset("llama"), LLAMA)
    >>> [source.name for source in names["blocks.0.attention.qkv.weight"]][:2]
    ['model.layers.0.self_attn.q_proj.weight', 'model.layers.0.self_attn.k_proj.weight']
    """
    sizes: dict[str, Any] = {
        "vocab_size": 1,
        "context_length": 1,
        "d_model": 2,
        "d_ff": 1,
        "rope_scaling": None,
    }
    sizes |= {"n_heads": 1, "n_kv_heads": 1, "head_dim": 2}  # names don't depend on sizes
    with torch.device("meta"):
        ours = own_tensors(Decoder(replace(config, **sizes)))
    names = {}
    for name in ours:
        module, kind = name.rsplit(".", 1)  # "blocks.7.attention.out", "weight"
        number = re.sub(r"\D", "", module)
        theirs = modules[module.replace(f".{number}.", ".N.")]
        names[name] = [Source(f"{one.replace('N', number)}.{kind}") for one in theirs]
    return names


def gpt2_names(config: ModelConfig, prefix: str = "transformer.") -> NameMap:
    """The names of GPT-2; its matrices (but not its tables) are stored transposed.

    Some files, OpenAI's own among them, leave the `prefix` out.

    >>> from transformer_lessons.presets import preset
    >>> gpt2_names(preset("gpt2"), prefix="")["blocks.0.feedforward.up.weight"][0].name
    'h.0.mlp.c_fc.weight'
    """
    names = map_names(config, GPT2)
    for ours, [source] in names.items():
        is_matrix = ours.startswith("blocks.") and not ours.endswith(("norm.weight", "bias"))
        name = source.name if ours == "head.weight" else prefix + source.name
        names[ours] = [Source(name, torch.t if is_matrix else None)]
    return names


def gguf_names(config: ModelConfig, interleaved: bool = False) -> NameMap:
    """The names in a GGUF file; gpt2's queries, keys and values are one matrix there, as ours are.

    `interleaved` says that llama.cpp turns neighbouring numbers of queries and keys (RoPE's
    interleaved layout), so that their rows are in another order, and are put back into ours, the
    split one. That is so in files of the architecture llama, not of qwen2 and qwen3.

    >>> from transformer_lessons.presets import preset
    >>> names = gguf_names(preset("smollm2-135m"))
    >>> [source.name for source in names["blocks.0.attention.qkv.weight"]]
    ['blk.0.attn_q.weight', 'blk.0.attn_k.weight', 'blk.0.attn_v.weight']
    """
    if config.position == "learned":
        return map_names(config, GGUF | {"blocks.N.attention.qkv": ["blk.N.attn_qkv"]})
    names = map_names(config, GGUF)
    n_heads, n_kv_heads, _ = config.heads
    for ours in names if interleaved else ():
        if ".attention.qkv." in ours:
            q, k, v = (source.name for source in names[ours])
            to_q = partial(to_split_layout, n_heads=n_heads, dim=0)
            to_k = partial(to_split_layout, n_heads=n_kv_heads, dim=0)
            names[ours] = [Source(q, to_q), Source(k, to_k), Source(v)]
    return names
