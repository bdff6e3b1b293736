"""A GGUF file as the book's `Decoder` and its tokenizer.

`gguf_names` is the map from our names to llama.cpp's: "blocks.0.attention.out.weight" is
"blk.0.attn_output.weight". Matrices are as in PyTorch, outputs first. The file has queries, keys
and values apart, but gpt2's are one matrix, as ours.

In a file of the architecture llama the rows of queries and keys are in another order: llama.cpp
turns neighbouring numbers (RoPE's interleaved layout), and its converter puts the rows into that
order. Here they are put back into ours, the split one. The files of qwen2 and qwen3 are as ours.
Source: llama.cpp's gguf-py/gguf/tensor_mapping.py, and `permute` in convert_hf_to_gguf.py.
"""

from functools import partial
from pathlib import Path

import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.rope import to_split_layout
from transformer_lessons.support.bpe_files import errors_in
from transformer_lessons.support.gguf_tokenizer import read_gguf_tokenizer
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.weights.assemble import NameMap, Source, assemble
from transformer_lessons.weights.gguf import GGUFFile, read_gguf
from transformer_lessons.weights.gguf_config import ROPE_FACTORS, gguf_config


def load_gguf(
    path: Path | str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Decoder, BPETokenizer | None]:
    """The model in the GGUF file `path`, in `dtype` on `device`, and its tokenizer.

    One tensor at a time is unpacked and copied into its place; every one is used exactly once. A
    file without a tokenizer gives None for it. What doesn't fit, or what the decoder doesn't have,
    raises `LessonsError` and names it.
    """
    file = read_gguf(path)
    tokenizer = gguf_tokenizer(file)  # first: it takes a second, the weights may take a minute
    return gguf_decoder(file, dtype, device), tokenizer


def gguf_tokenizer(file: GGUFFile) -> BPETokenizer | None:
    """The tokenizer of a GGUF file, with the file's ids; None if the file has none."""
    with errors_in(file.path):
        parts = read_gguf_tokenizer(file.metadata)
        return parts and BPETokenizer(*parts)


def gguf_decoder(
    file: GGUFFile, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Decoder:
    """The model in a GGUF file, without its tokenizer."""
    config = gguf_config(file)
    shapes = {name: t.shape for name, t in file.tensors.items() if name != ROPE_FACTORS}
    names = partial(gguf_names, interleaved=file.metadata["general.architecture"] == "llama")
    read = partial(file.read, dtype=dtype)
    return assemble(config, names, shapes, read, dtype, device, where=str(file.path))


def gguf_names(config: ModelConfig, interleaved: bool = False) -> NameMap:
    """Which tensors of a GGUF file make each of ours.

    `interleaved` says that the heads of queries and keys are in RoPE's interleaved layout.

    >>> from transformer_lessons.presets import preset
    >>> names = gguf_names(preset("smollm2-135m"))
    >>> [source.name for source in names["blocks.0.attention.qkv.weight"]]
    ['blk.0.attn_q.weight', 'blk.0.attn_k.weight', 'blk.0.attn_v.weight']
    """
    norm = ("weight", "bias") if config.norm == "layer" else ("weight",)
    names = {"embedding.weight": [Source("token_embd.weight")]}
    if config.position == "learned":
        names["position_embedding.weight"] = [Source("position_embd.weight")]
    for number in range(config.n_layers):
        for ours, theirs in block_names(config, norm, interleaved).items():
            sources = [Source(f"blk.{number}.{name}", change) for name, change in theirs]
            names[f"blocks.{number}.{ours}"] = sources
    names |= {f"final_norm.{kind}": [Source(f"output_norm.{kind}")] for kind in norm}
    if not config.tie_embeddings:
        names["head.weight"] = [Source("output.weight")]
    return names


def block_names(config: ModelConfig, norm: tuple[str, ...], interleaved: bool) -> NameMap:
    """The same for one block."""
    linear = ("weight", "bias") if config.bias else ("weight",)
    parts = {
        "attention_norm": ("attn_norm", norm),
        "attention.out": ("attn_output", linear),
        "feedforward_norm": ("ffn_norm", norm),
        "feedforward.up": ("ffn_up", linear),
        "feedforward.down": ("ffn_down", linear),
    }
    if config.ffn == "swiglu":
        parts["feedforward.gate"] = ("ffn_gate", linear)
    if config.qk_norm:
        parts |= {"attention.q_norm": ("attn_q_norm", norm)}
        parts |= {"attention.k_norm": ("attn_k_norm", norm)}
    names = {
        f"{ours}.{kind}": [Source(f"{theirs}.{kind}")]
        for ours, (theirs, kinds) in parts.items()
        for kind in kinds
    }
    qkv_bias = config.bias if config.qkv_bias is None else config.qkv_bias
    for kind in ("weight", "bias") if qkv_bias else ("weight",):
        names[f"attention.qkv.{kind}"] = qkv_sources(config, kind, interleaved)
    return names


def qkv_sources(config: ModelConfig, kind: str, interleaved: bool) -> list[Source]:
    """Where the rows of queries, keys and values are: in one tensor, or in three."""
    if config.position == "learned":
        return [Source(f"attn_qkv.{kind}")]
    change_q = partial(to_split_layout, n_heads=config.n_heads, dim=0) if interleaved else None
    change_k = (
        partial(to_split_layout, n_heads=config.heads.n_kv_heads, dim=0) if interleaved else None
    )
    q, k, v = (f"attn_{letter}.{kind}" for letter in "qkv")
    return [Source(q, change_q), Source(k, change_k), Source(v)]
