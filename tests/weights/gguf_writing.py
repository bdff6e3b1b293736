"""Writing GGUF files for tests: models with the package `gguf`, hostile files byte by byte."""

import struct

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type

CASTS = {"F32": np.float32, "F16": np.float16}
LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
}
OUTSIDE = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
}


def llama_cpp_name(name):
    """The name that llama.cpp's converter gives a tensor of transformers."""
    stem, kind = name.rsplit(".", 1)
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.{kind}"
    number, rest = stem.split(".", 2)[2].split(".", 1)
    return f"blk.{number}.{LAYER[rest]}.{kind}"


def permute(weights, n_heads):
    """What convert_hf_to_gguf.py does to the rows of q and k of a llama (LlamaModel.permute)."""
    heads = weights.reshape(n_heads, 2, weights.shape[0] // n_heads // 2, *weights.shape[1:])
    return heads.swapaxes(1, 2).reshape(weights.shape)


def pack(array, kind):
    """The array in the type `kind`, and the numbers that are left of it."""
    if kind in CASTS:
        packed = array.astype(CASTS[kind])
        return packed, packed.astype(np.float32)
    packed = gguf.quants.quantize(array, Type[kind])
    return packed, gguf.quants.dequantize(packed, Type[kind])


def write_model(path, model, kind="F32", metadata=None, tokenizer=None, skip=(), extra=None):
    """Write a model of transformers as its converter would, matrices in the type `kind`.

    The model gets the numbers that are left, so that it can be compared with what is read.
    """
    config, architecture = model.config, model.config.model_type
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in (model_metadata(config) | (metadata or {})).items():
        add_value(writer, name, value)
    for name, value in (tokenizer or {}).items():
        add_value(writer, name, value)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            theirs, array = llama_cpp_name(name), parameter.numpy().copy()
            if theirs in skip:
                continue
            conv1d = architecture == "gpt2" and ".h." in name and array.ndim == 2
            array = np.ascontiguousarray(array.T) if conv1d else array
            n_heads = {"attn_q.": config.num_attention_heads}
            n_heads["attn_k."] = getattr(config, "num_key_value_heads", None)
            permuted = [n for part, n in n_heads.items() if part in theirs]
            if architecture == "llama" and permuted:
                array = permute(array, permuted[0])
            how = kind if array.ndim == 2 else "F32"
            packed, left = pack(array, how)
            writer.add_tensor(theirs, packed, raw_dtype=Type[how])
            if architecture == "llama" and permuted:
                width = left.shape[0] // permuted[0]
                heads = left.reshape(permuted[0], width // 2, 2, *left.shape[1:])
                left = heads.swapaxes(1, 2).reshape(left.shape)
            parameter.copy_(torch.tensor(left.T if conv1d else left))
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def model_metadata(config):
    """What the converter writes about a model of transformers."""
    name = config.model_type
    if name == "gpt2":
        return {
            f"{name}.context_length": config.n_positions,
            f"{name}.embedding_length": config.n_embd,
            f"{name}.feed_forward_length": 4 * config.n_embd,
            f"{name}.block_count": config.n_layer,
            f"{name}.attention.head_count": config.n_head,
            f"{name}.attention.layer_norm_epsilon": config.layer_norm_epsilon,
        }
    head_dim = getattr(config, "head_dim", None)
    width = head_dim or config.hidden_size // config.num_attention_heads
    values = {
        f"{name}.context_length": config.max_position_embeddings,
        f"{name}.embedding_length": config.hidden_size,
        f"{name}.feed_forward_length": config.intermediate_size,
        f"{name}.block_count": config.num_hidden_layers,
        f"{name}.attention.head_count": config.num_attention_heads,
        f"{name}.attention.head_count_kv": config.num_key_value_heads,
        f"{name}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{name}.rope.freq_base": config.rope_parameters["rope_theta"],
        f"{name}.rope.dimension_count": width,
        f"{name}.vocab_size": config.vocab_size,
    }
    if name == "qwen3":
        values |= {f"{name}.attention.key_length": width, f"{name}.attention.value_length": width}
    return values


def add_value(writer, name, value):
    """Add a metadata entry of the type that llama.cpp uses for such values."""
    add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
    add |= {str: writer.add_string, list: writer.add_array}
    add[type(value)](name, value)


# Files byte by byte


def u32(number):
    return struct.pack("<I", number)


def u64(number):
    return struct.pack("<Q", number)


def text(string):
    data = string if isinstance(string, bytes) else string.encode()
    return u64(len(data)) + data


def entry(key, kind, value):
    """A metadata entry: `value` is bytes."""
    return text(key) + u32(kind) + value


def tensor(name, sizes, kind, offset):
    return text(name) + u32(len(sizes)) + b"".join(map(u64, sizes)) + u32(kind) + u64(offset)


def raw_file(entries=(), tensors=(), data=b"", version=3, n_entries=None, n_tensors=None):
    """A whole file; the counts can be made to lie."""
    n_entries = len(entries) if n_entries is None else n_entries
    n_tensors = len(tensors) if n_tensors is None else n_tensors
    head = b"GGUF" + u32(version) + u64(n_tensors) + u64(n_entries)
    head += b"".join(entries) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + data
