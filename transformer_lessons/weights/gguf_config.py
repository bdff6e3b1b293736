"""The metadata of a GGUF file as a `ModelConfig`.

Metadata has llama.cpp's names, each behind the name of the architecture: "llama.block_count" is
`n_layers`. Read are llama (Llama, Mistral, SmolLM2), qwen2, qwen3 and gpt2. Every setting of the
architecture must be known: one that is passed over could change what the model computes.
Source: llama.cpp's gguf-py/gguf/constants.py, and convert_hf_to_gguf.py, which writes them.
"""

from typing import Any

import torch

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.rope import rope_frequencies
from transformer_lessons.weights.gguf import GGUFFile

GPT2 = {"position": "learned", "norm": "layer", "ffn": "gelu", "bias": True}
LLAMA = {"position": "rope", "norm": "rms", "ffn": "swiglu", "bias": False}
ARCHITECTURES = {"llama": LLAMA, "qwen2": LLAMA, "qwen3": LLAMA, "gpt2": GPT2}
# Settings that must be absent or off, and what they ask for when they aren't.
OFF = {
    "expert_count": "a mixture of experts",
    "expert_used_count": "a mixture of experts",
    "use_parallel_residual": "attention and feed-forward side by side",
    "attention.clamp_kqv": "clamped queries, keys and values",
    "attention.max_alibi_bias": "ALiBi positions",
    "logit_scale": "scaled logits",
}
ROPE_FACTORS = "rope_freqs.weight"  # how many times slower each pair turns, in Llama 3.1 and later


class Settings:
    """The metadata of one architecture, and which of its entries have been asked for."""

    def __init__(self, file: GGUFFile) -> None:
        self.file, self.asked = file, set()
        self.architecture = file.metadata.get("general.architecture")
        if self.architecture not in ARCHITECTURES:
            what = f"{str(self.architecture)[:40]!r} is not an architecture that can be read"
            remedy = f"Known: {', '.join(ARCHITECTURES)}."
            raise self.fail(what, "general.architecture", remedy)

    def fail(self, what: str, key: str, remedy: str = "") -> LessonsError:
        return LessonsError(what, where=f"{self.file.path}, {key}", remedy=remedy)

    def find(self, name: str, kind: type) -> Any:
        """The setting `name`, which must be of the type `kind`; None if it isn't there.

        Where each block may have its own value, all must be the same.
        """
        key = f"{self.architecture}.{name}"
        self.asked.add(name)
        value = self.file.metadata.get(key)
        if isinstance(value, list):
            if any(one != value[0] for one in value) or not value:
                raise self.fail("blocks that differ are something the decoder doesn't have", key)
            value = value[0]
        if value is not None and type(value) is not kind:
            raise self.fail(f"{str(value)[:40]!r} is not of type {kind.__name__}", key)
        return value

    def get(self, name: str, kind: type = int) -> Any:
        """The setting `name`; one that is missing raises `LessonsError`."""
        value = self.find(name, kind)
        if value is None:
            raise self.fail("it is missing", f"{self.architecture}.{name}")
        return value

    def expect(self, name: str, value: int) -> None:
        """Raise `LessonsError` unless the setting `name` is `value`, or not there."""
        found = self.find(name, int)
        if found not in (None, value):
            what = f"{found} doesn't fit the rest of the file, which means {value}"
            raise self.fail(what, f"{self.architecture}.{name}")


def check_all_known(settings: Settings) -> None:
    """Raise `LessonsError` for a setting that nobody has asked for, unless it is off."""
    prefix = f"{settings.architecture}."
    for key, value in settings.file.metadata.items():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix) or name in settings.asked or (name in OFF and not value):
            continue
        if name in OFF:
            what = f"it asks for {OFF[name]}, which the decoder doesn't have"
            raise settings.fail(what, key)
        raise settings.fail("it is not known what this means for the model", key)


def gguf_config(file: GGUFFile) -> ModelConfig:
    """The `ModelConfig` of a GGUF file.

    A setting that is missing, unknown, or asks for what the decoder doesn't have raises
    `LessonsError`. Biases and a head of its own are where the file has tensors for them.
    """
    settings, tensors = Settings(file), file.tensors
    if "token_embd.weight" not in tensors:
        raise LessonsError("tensor 'token_embd.weight' is missing", where=str(file.path))
    base = ARCHITECTURES[settings.architecture]
    values = base | {
        "vocab_size": tensors["token_embd.weight"].shape[0],
        "context_length": settings.get("context_length"),
        "d_model": settings.get("embedding_length"),
        "n_layers": settings.get("block_count"),
        "n_heads": settings.get("attention.head_count"),
        "n_kv_heads": settings.find("attention.head_count_kv", int),
        "d_ff": settings.get("feed_forward_length"),
        "head_bias": False,
        "tie_embeddings": "output.weight" not in tensors,
    }
    settings.expect("vocab_size", values["vocab_size"])
    if settings.architecture == "gpt2":
        values["norm_eps"] = settings.get("attention.layer_norm_epsilon", float)
    else:
        values |= llama_values(settings, values["d_model"], values["n_heads"])
    check_all_known(settings)
    return ModelConfig.from_dict(values, where=str(file.path))


def llama_values(settings: Settings, d_model: int, n_heads: int) -> dict[str, Any]:
    """What llama, qwen2 and qwen3 have and gpt2 doesn't: RoPE, heads of any width, a window."""
    width = settings.find("attention.key_length", int) or d_model // max(n_heads, 1)
    settings.expect("attention.value_length", width)
    settings.expect("rope.dimension_count", width)
    values = {
        "norm_eps": settings.get("attention.layer_norm_rms_epsilon", float),
        "rope_theta": settings.find("rope.freq_base", float) or 10_000.0,
        "sliding_window": settings.find("attention.sliding_window", int) or None,
        "qkv_bias": "blk.0.attn_q.bias" in settings.file.tensors,
        "qk_norm": "blk.0.attn_q_norm.weight" in settings.file.tensors,
    }
    if width * n_heads != d_model:
        values["head_dim"] = width
    if ROPE_FACTORS in settings.file.tensors:
        values["rope_scaling"] = llama3_scaling(settings.file, width, values["rope_theta"])
    elif (kind := settings.find("rope.scaling.type", str)) not in (None, "none"):
        values["rope_scaling"] = named_scaling(settings, kind)
    return values


def named_scaling(settings: Settings, kind: str) -> RopeScaling:
    """The scaling that the metadata describes: linear or yarn."""
    settings.find("rope.scaling.finetuned", bool)  # whether it was trained so: nothing follows
    if kind not in ("linear", "yarn"):
        key = f"{settings.architecture}.rope.scaling.type"
        raise settings.fail(f"{kind[:40]!r} is not linear or yarn", key)
    length = settings.find("rope.scaling.original_context_length", int)
    return RopeScaling(kind, settings.get("rope.scaling.factor", float), length)


def llama3_scaling(file: GGUFFile, width: int, base: float) -> RopeScaling:
    """The scaling behind the factors of a Llama 3 file, which keeps them and not their origin.

    The slowest pair has the whole factor. The rest is as Llama 3 was published: trained on 8,192
    tokens, slow below 1 turn, fast above 4; if that doesn't give the factors, `LessonsError`.
    """
    factors, where = file.read(ROPE_FACTORS), f"{file.path}, {ROPE_FACTORS}"
    if factors.shape != (width // 2,) or not 1 <= float(factors.max()) < 1e6:
        raise LessonsError("not a factor of 1 or more for each pair", where=where)
    scaling = RopeScaling("llama3", float(factors.max()), original_context_length=8192)
    plain, scaled = (rope_frequencies(width, base, how)[0] for how in (None, scaling))
    if not torch.allclose(plain / scaled, factors, rtol=1e-4):
        raise LessonsError("the factors are not those of Llama 3", where=where)
    return scaling
