"""The metadata of a GGUF file as a `ModelConfig`.

Metadata has llama.cpp's names, each behind the name of the architecture: "llama.block_count" is
`n_layers`. Read are llama (Llama, Mistral, SmolLM2), qwen2, qwen3 and gpt2. Every setting of the
architecture must be known: one that is passed over could change what the model computes.
Source: llama.cpp's gguf-py/gguf/constants.py, and convert_hf_to_gguf.py, which writes them.
"""

from typing import Any

import torch
from torch import Tensor

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import field
from transformer_lessons.support.gguf_file import GGUFFile

GPT2: dict[str, Any] = {"position": "learned", "norm": "layer", "ffn": "gelu", "bias": True}
LLAMA: dict[str, Any] = {"position": "rope", "norm": "rms", "ffn": "swiglu", "bias": False}
ARCHITECTURES = {"llama": LLAMA, "qwen2": LLAMA, "qwen3": LLAMA, "gpt2": GPT2}
WORDS = {  # sizes that every architecture has
    "context_length": "context_length",
    "d_model": "embedding_length",
    "n_layers": "block_count",
    "n_heads": "attention.head_count",
    "d_ff": "feed_forward_length",
}
# Settings for what the decoder doesn't have: they must be absent, or off.
# fmt: off
OFF = {"expert_count", "expert_used_count", "use_parallel_residual", "attention.clamp_kqv",
       "attention.max_alibi_bias", "logit_scale"}
# fmt: on
ROPE_FACTORS = "rope_freqs.weight"  # how many times slower each pair turns, in Llama 3.1 and later


def gguf_config(file: GGUFFile) -> ModelConfig:
    """The `ModelConfig` of a GGUF file; biases and a head are where it has tensors for them."""
    where, tensors = str(file.path), file.tensors
    architecture = str(file.metadata.get("general.architecture"))
    if architecture not in ARCHITECTURES:
        what = f"{architecture[:40]!r} is not an architecture that can be read"
        remedy = f"Known: {', '.join(ARCHITECTURES)}."
        raise LessonsError(what, where=f"{where}, general.architecture", remedy=remedy)
    if "token_embd.weight" not in tensors:
        raise LessonsError("tensor 'token_embd.weight' is missing", where=where)
    settings = _Settings(file, architecture)
    values: dict[str, Any] = ARCHITECTURES[architecture] | {
        "vocab_size": tensors["token_embd.weight"].shape[0],
        "n_kv_heads": settings.take("attention.head_count_kv", int | None),
        "head_bias": False,
        "tie_embeddings": "output.weight" not in tensors,
    }
    values |= {ours: settings.take(theirs, int) for ours, theirs in WORDS.items()}
    settings.expect("vocab_size", values["vocab_size"])
    if architecture == "gpt2":
        values["norm_eps"] = settings.take("attention.layer_norm_epsilon", float)
    else:
        values |= _llama_values(file, settings, values["d_model"], values["n_heads"])
        values["qk_norm"] = architecture == "qwen3"  # a file without them lacks tensors
    if unknown := {name for name, value in settings.items() if value or name not in OFF}:
        what = "it is not known what this means for the model"
        raise LessonsError(what, where=f"{settings.where}.{min(unknown)}")
    return ModelConfig.from_dict(values, where=where)


class _Settings(dict[str, Any]):
    """The metadata of one architecture; what is taken is no longer there, so what stays is unknown.

    A list with one value for each block stands for that value.
    """

    def __init__(self, file: GGUFFile, architecture: str) -> None:
        self.where = f"{file.path}, {architecture}"
        for key, value in file.metadata.items():
            if key.startswith(f"{architecture}."):
                name = key.removeprefix(f"{architecture}.")
                if isinstance(value, list) and any(one != value[0] for one in value):
                    what = "blocks that differ are something the decoder doesn't have"
                    raise LessonsError(what, where=f"{self.where}.{name}")
                self[name] = value[0] if isinstance(value, list) and value else value

    def take(self, name: str, kind: Any) -> Any:
        value = field(self, name, kind, self.where)
        self.pop(name, None)
        return value

    def expect(self, name: str, value: int) -> None:
        """Raise `LessonsError` unless the setting `name` is `value`, or not there."""
        if (found := self.take(name, int | None)) not in (None, value):
            what = f"{found} doesn't fit the rest of the file, which means {value}"
            raise LessonsError(what, where=f"{self.where}.{name}")


def _llama_values(
    file: GGUFFile, settings: _Settings, d_model: int, n_heads: int
) -> dict[str, Any]:
    """What llama, qwen2 and qwen3 have and gpt2 doesn't: RoPE, heads of any width, a window."""
    width = settings.take("attention.key_length", int | None) or d_model // max(n_heads, 1)
    settings.expect("attention.value_length", width)
    settings.expect("rope.dimension_count", width)
    return {
        "head_dim": width if width * n_heads != d_model else None,
        "norm_eps": settings.take("attention.layer_norm_rms_epsilon", float),
        "rope_theta": settings.take("rope.freq_base", float | None) or 10_000.0,
        "rope_scaling": _scaling(file, settings, width),
        "sliding_window": settings.take("attention.sliding_window", int | None) or None,
        "qkv_bias": "blk.0.attn_q.bias" in file.tensors,
    }


def _scaling(file: GGUFFile, settings: _Settings, width: int) -> RopeScaling | None:
    """RoPE's scaling: linear or yarn by name; Llama 3's by the factors that the file keeps."""
    if ROPE_FACTORS in file.tensors:
        # The slowest pair has the whole factor, the rest is as published; `load_gguf` compares.
        factor = float(rope_factors(file, width).max())
        return RopeScaling("llama3", factor, original_context_length=8192)
    kind = settings.take("rope.scaling.type", str | None)
    if kind in (None, "none"):
        return None
    settings.take("rope.scaling.finetuned", bool | None)  # whether it was trained so
    if kind not in ("linear", "yarn"):
        where = f"{settings.where}.rope.scaling.type"
        raise LessonsError(f"{kind[:40]!r} is not linear or yarn", where=where)
    length = settings.take("rope.scaling.original_context_length", int | None)
    return RopeScaling(kind, settings.take("rope.scaling.factor", float), length)


def rope_factors(file: GGUFFile, width: int) -> Tensor:
    """How many times slower each pair of a head turns (width / 2,), as a Llama 3's file says."""
    where = f"{file.path}, {ROPE_FACTORS}"
    if file.tensors[ROPE_FACTORS].type != "F32":
        raise LessonsError("not a tensor of the type F32", where=where)
    factors = file.blocks(ROPE_FACTORS).view(torch.float32).flatten()
    if factors.shape != (width // 2,) or not 1 <= float(factors.max()) < 1e6:
        raise LessonsError("not a factor of 1 or more for each pair", where=where)
    return factors


def gguf_settings(config: ModelConfig, architecture: str) -> dict[str, Any]:
    """The inverse of `gguf_config`, for an `architecture`; what it can't say: `LessonsError`."""
    scaling, (_, n_kv_heads, width) = config.rope_scaling, config.heads
    values: dict[str, Any] = {theirs: getattr(config, ours) for ours, theirs in WORDS.items()}
    values["vocab_size"] = config.vocab_size
    if architecture == "gpt2":
        values["attention.layer_norm_epsilon"] = config.norm_eps
    else:
        values |= {"attention.head_count_kv": n_kv_heads, "rope.dimension_count": width}
        values |= {"attention.key_length": width, "attention.value_length": width}
        values["attention.layer_norm_rms_epsilon"] = config.norm_eps
        values["rope.freq_base"] = float(config.rope_theta)
    odd = {"sliding_window": config.sliding_window is not None, "ffn": config.ffn == "relu"}
    odd["bias"] = config.bias and architecture != "gpt2"
    if scaling is not None:  # its betas and its size are not in the file: the usual ones are meant
        length = 8192 if scaling.kind == "llama3" else scaling.original_context_length
        usual = scaling.kind != "dynamic" and RopeScaling(scaling.kind, scaling.factor, length)
        odd["rope_scaling"] = scaling != usual
        if scaling.kind != "llama3":  # whose factors are a tensor
            said = {"type": scaling.kind, "factor": float(scaling.factor)}
            said |= {"original_context_length": length} if length is not None else {}
            values |= {f"rope.scaling.{name}": value for name, value in said.items()}
    for name in [name for name in odd if odd[name]]:
        what = f"{name} = {getattr(config, name)!r} can't be said in a GGUF file"
        raise LessonsError(what, where=f"ModelConfig.{name}")
    return {f"{architecture}.{name}": value for name, value in values.items()}
