"""Counting what a model has and costs: parameters, operations (FLOPs), bytes. Lesson 10."""

from torch import nn

from transformer_lessons.config import ModelConfig


def count_parameters(model: nn.Module) -> int:
    """How many numbers training can change; a tensor used in two places counts once.

    >>> count_parameters(nn.Linear(4, 8))
    40
    """
    return sum(parameter.numel() for parameter in model.parameters())


def parameter_counts(config: ModelConfig) -> dict[str, int]:
    """How many parameters each kind of part holds, from the config alone.

    >>> from transformer_lessons.presets import preset
    >>> parameter_counts(preset("fluctlight"))
    {'embedding': 1024, 'attention': 160, 'feed-forward': 152, 'norms': 40, 'head': 1280}
    """
    d_model, d_ff, n_layers = config.d_model, config.d_ff, config.n_layers
    n_heads, n_kv_heads, width = config.heads
    n_queries, n_keys = n_heads * width, n_kv_heads * width
    qkv_bias = config.bias if config.qkv_bias is None else config.qkv_bias
    qkv = (d_model + qkv_bias) * (n_queries + 2 * n_keys)
    out = (n_queries + config.bias) * d_model
    n_up = 2 if config.ffn == "swiglu" else 1
    feedforward = n_up * (d_model + config.bias) * d_ff + (d_ff + config.bias) * d_model
    n_tables = config.context_length if config.position == "learned" else 0
    per_number = 2 if config.norm == "layer" else 1  # a layer norm has a weight and a bias
    n_norms = 2 * n_layers + (config.norm_placement == "pre")
    norm_width = n_norms * d_model + config.qk_norm * n_layers * 2 * width
    matrix = 0 if config.tie_embeddings else d_model * config.vocab_size
    return {
        "embedding": (config.vocab_size + n_tables) * d_model,
        "attention": n_layers * (qkv + out),
        "feed-forward": n_layers * feedforward,
        "norms": per_number * norm_width,
        "head": matrix + config.head_bias * config.vocab_size,
    }


def flops_per_token(config: ModelConfig, n_context: int) -> dict[str, int]:
    """Operations to run one token that looks at `n_context` tokens, itself included, by part.

    A matrix of n x m numbers takes 2 n m operations: a multiplication and an addition each. Norms,
    activations and softmax, few beside these, are left out. Training takes three times as many.
    Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1.

    >>> from transformer_lessons.presets import preset
    >>> sum(flops_per_token(preset("gpt2"), n_context=1).values()) // 10**6
    247
    """
    d_model, n_layers, (n_heads, n_kv_heads, width) = config.d_model, config.n_layers, config.heads
    n_queries, n_keys = n_heads * width, n_kv_heads * width
    n_seen = min(n_context, config.sliding_window or n_context)
    n_matrices = 3 if config.ffn == "swiglu" else 2
    return {
        "attention matrices": n_layers * 2 * d_model * (2 * n_queries + 2 * n_keys),
        "scores and mixing": n_layers * 4 * n_queries * n_seen,
        "feed-forward": n_layers * 2 * n_matrices * d_model * config.d_ff,
        "head": 2 * d_model * config.vocab_size,
    }


def kv_bytes(config: ModelConfig, n_tokens: int, bytes_per_number: int = 2) -> int:
    """Memory for the keys and values of `n_tokens` tokens in all blocks, kept for generation.

    >>> from transformer_lessons.presets import preset
    >>> kv_bytes(preset("llama3.2-1b"), n_tokens=1)
    32768
    """
    n_seen = min(n_tokens, config.sliding_window or n_tokens)
    per_token = config.n_layers * 2 * config.heads.n_kv_heads * config.heads.head_dim
    return per_token * n_seen * bytes_per_number


def training_bytes(config: ModelConfig) -> dict[str, int]:
    """Memory that training holds in float32 whatever the batch: 16 bytes a parameter with Adam."""
    n_bytes = 4 * sum(parameter_counts(config).values())
    return {"weights": n_bytes, "gradients": n_bytes, "Adam's two averages": 2 * n_bytes}
