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
from transformer_lessons.support.gguf_file import GGUFFile

GPT2: dict[str, Any] = {"position": "learned", "norm": "layer", "ffn": "gelu", "bias": True}
LLAMA: dict[str, Any] = {"position": "rope", "norm": "rms", "ffn": "swiglu", "bias": False}
ARCHITECTURES = {"llama": LLAMA, "qwen2": LLAMA, "qwen3": LLAMA, "gpt2": GPT2}
# Settings for what the decoder doesn't have: they must be absent, or off.
# fmt: off
OFF = {"expert_count", "expert_used_count", "use_parallel_residual", "attention.clamp_kqv",
       "attention.max_alibi_bias", "logit_scale"}
# fmt: on
ROPE_FACTORS = "rope_freqs.weight"  # how many times slower each pair turns, in Llama 3.1 and later


def gguf_config(file: GGUFFile) -> ModelConfig:
    """The `ModelConfig` of a GGUF file; biases and a head are where it has tensors for them."""
    settings, tensors = _Settings(file), file.tensors
    if "token_embd.weight" not in tensors:
        raise LessonsError("tensor 'token_embd.weight' is missing", where=str(file.path))
    values: dict[str, Any] = ARCHITECTURES[settings.architecture] | {
        "vocab_size": tensors["token_embd.weight"].shape[0],
        "context_length": settings.get("context_length"),
        "d_model": settings.get("embedding_length"),
        "n_layers": settings.get("block_count"),
        "n_heads": settings.get("attention.head_count"),
        "n_kv_heads": settings.find("attention.head_count_kv"),
        "d_ff": settings.get("feed_forward_length"),
        "head_bias": False,
        "tie_embeddings": "output.weight" not in tensors,
    }
    settings.expect("vocab_size", values["vocab_size"])
    if settings.architecture == "gpt2":
        values["norm_eps"] = settings.get("attention.layer_norm_epsilon", float)
    else:
        values |= _llama_values(settings, values["d_model"], values["n_heads"])
    settings.check_all_known()
    return ModelConfig.from_dict(values, where=str(file.path))


class _Settings:
    """The metadata of one architecture, and which of its entries have been asked for."""

    def __init__(self, file: GGUFFile) -> None:
        self.file = file
        self.asked: set[str] = set()
        self.architecture = str(file.metadata.get("general.architecture"))
        if self.architecture not in ARCHITECTURES:
            what = f"{self.architecture[:40]!r} is not an architecture that can be read"
            where = f"{file.path}, general.architecture"
            raise LessonsError(what, where=where, remedy=f"Known: {', '.join(ARCHITECTURES)}.")

    def fail(self, what: str, name: str) -> LessonsError:
        return LessonsError(what, where=f"{self.file.path}, {self.architecture}.{name}")

    def find(self, name: str, kind: type = int) -> Any:
        """The setting `name`, which must be a `kind`, or a list of one for all blocks; or None."""
        self.asked.add(name)
        value = self.file.metadata.get(f"{self.architecture}.{name}")
        if isinstance(value, list) and value:
            if any(one != value[0] for one in value):
                raise self.fail("blocks that differ are something the decoder doesn't have", name)
            value = value[0]
        if value is not None and type(value) is not kind:
            raise self.fail(f"{str(value)[:40]!r} is not of type {kind.__name__}", name)
        return value

    def get(self, name: str, kind: type = int) -> Any:
        if (value := self.find(name, kind)) is None:
            raise self.fail("it is missing", name)
        return value

    def expect(self, name: str, value: int) -> None:
        """Raise `LessonsError` unless the setting `name` is `value`, or not there."""
        if (found := self.find(name)) not in (None, value):
            what = f"{found} doesn't fit the rest of the file, which means {value}"
            raise self.fail(what, name)

    def check_all_known(self) -> None:
        """Raise for a setting that nobody has asked for, unless it is off."""
        prefix = f"{self.architecture}."
        for key in [key for key in self.file.metadata if key.startswith(prefix)]:
            name, value = key.removeprefix(prefix), self.file.metadata[key]
            if name not in self.asked and (name not in OFF or value):
                raise self.fail("it is not known what this means for the model", name)


def _llama_values(settings: _Settings, d_model: int, n_heads: int) -> dict[str, Any]:
    """What llama, qwen2 and qwen3 have and gpt2 doesn't: RoPE, heads of any width, a window."""
    width = settings.find("attention.key_length") or d_model // max(n_heads, 1)
    settings.expect("attention.value_length", width)
    settings.expect("rope.dimension_count", width)
    return {
        "head_dim": width if width * n_heads != d_model else None,
        "norm_eps": settings.get("attention.layer_norm_rms_epsilon", float),
        "rope_theta": settings.find("rope.freq_base", float) or 10_000.0,
        "rope_scaling": _scaling(settings, width),
        "sliding_window": settings.find("attention.sliding_window") or None,
        "qkv_bias": "blk.0.attn_q.bias" in settings.file.tensors,
        "qk_norm": settings.architecture == "qwen3",  # a file without them lacks tensors
    }


def _scaling(settings: _Settings, width: int) -> RopeScaling | None:
    """RoPE's scaling: linear or yarn by name; Llama 3's by the factors that the file keeps."""
    if ROPE_FACTORS in settings.file.tensors:
        # The slowest pair has the whole factor, the rest is as published; `load_gguf` compares.
        factor = float(rope_factors(settings.file, width).max())
        return RopeScaling("llama3", factor, original_context_length=8192)
    kind = settings.find("rope.scaling.type", str)
    if kind in (None, "none"):
        return None
    settings.find("rope.scaling.finetuned", bool)  # whether it was trained so: nothing follows
    if kind not in ("linear", "yarn"):
        raise settings.fail(f"{kind[:40]!r} is not linear or yarn", "rope.scaling.type")
    length = settings.find("rope.scaling.original_context_length")
    return RopeScaling(kind, settings.get("rope.scaling.factor", float), length)


def rope_factors(file: GGUFFile, width: int) -> Tensor:
    """How many times slower each pair of a head turns (width / 2,), as a Llama 3's file says."""
    where = f"{file.path}, {ROPE_FACTORS}"
    if file.tensors[ROPE_FACTORS].type != "F32":
        raise LessonsError("not a tensor of the type F32", where=where)
    factors = file.blocks(ROPE_FACTORS).view(torch.float32).flatten()
    if factors.shape != (width // 2,) or not 1 <= float(factors.max()) < 1e6:
        raise LessonsError("not a factor of 1 or more for each pair", where=where)
    return factors
