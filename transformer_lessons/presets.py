"""Models with a name: the book's own, and published ones down to the last field. Lesson 10."""

from functools import partial

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError

_gpt = partial(ModelConfig, position="learned", ffn="gelu", head_bias=False, tie_embeddings=True)
_llama = partial(
    ModelConfig, norm="rms", ffn="swiglu", bias=False, head_bias=False, tie_embeddings=True
)

PRESETS = {
    # the book's own, smallest first
    "fluctlight": ModelConfig(
        256, 16, d_model=4, n_layers=2, n_heads=2, d_ff=8, adaptive_norm=True
    ),
    "bytes-1m": ModelConfig(256, 128, d_model=128, n_layers=4, n_heads=4, d_ff=512),
    "python-small": _llama(4096, 256, d_model=192, n_layers=6, n_heads=6, n_kv_heads=2, d_ff=512),
    "llama": _llama(4096, 256, d_model=256, n_layers=6, n_heads=8, n_kv_heads=2, d_ff=688),
    "gpt": _gpt(100_277, 5000, d_model=256, n_layers=6, n_heads=4, d_ff=1024, dropout=0.1),
    # published models
    "gpt2": _gpt(50_257, 1024, d_model=768, n_layers=12, n_heads=12, d_ff=3072, dropout=0.1),
    "smollm2-135m": _llama(
        49_152,
        8192,
        d_model=576,
        n_layers=30,
        n_heads=9,
        n_kv_heads=3,
        d_ff=1536,
        rope_theta=100_000.0,
    ),
    "llama3.2-1b": _llama(
        128_256,
        131_072,
        d_model=2048,
        n_layers=16,
        n_heads=32,
        n_kv_heads=8,
        d_ff=8192,
        rope_theta=500_000.0,
        rope_scaling=RopeScaling("llama3", factor=32.0, original_context_length=8192),
    ),
}


def preset(name: str) -> ModelConfig:
    """The config of a model with a name; an unknown name raises `LessonsError`.

    The book's own are `fluctlight` (2,656 parameters), `bytes-1m`, `python-small` (which ships
    trained), `llama` and `gpt`; `gpt2`, `smollm2-135m` and `llama3.2-1b` are published models.
    Sources: Radford et al. 2019; Allal et al. 2025, "SmolLM2"; Grattafiori et al. 2024, "The
    Llama 3 Herd of Models".

    >>> preset("fluctlight").d_model
    4
    """
    if name not in PRESETS:
        raise LessonsError(f"unknown preset {name!r}", remedy=f"Known: {', '.join(PRESETS)}.")
    return PRESETS[name]
