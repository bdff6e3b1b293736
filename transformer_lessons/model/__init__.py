"""The transformer, one concept a file; `from transformer_lessons.model import …` has them all."""

# fmt: off
# isort: off
from transformer_lessons.model.accounting import (
    count_parameters, flops_per_token, kv_bytes, parameter_counts, training_bytes)
from transformer_lessons.model.attention import (
    CausalAttention, attend, attention_weights, batched_attend, blocked_attend, causal_mask,
    fused_attend, merge_heads, repeat_heads, split_heads)
from transformer_lessons.model.block import Block
from transformer_lessons.model.cache import KVCache, longest_cached
from transformer_lessons.model.compilation import compiled
from transformer_lessons.model.decoder import Decoder, attention_inputs, initialize
from transformer_lessons.model.embedding import Embedding, sinusoidal_table
from transformer_lessons.model.feedforward import (
    FeedForward, GatedFeedForward, gelu, make_feedforward, swiglu)
from transformer_lessons.model.inference import inference
from transformer_lessons.model.linear import SmallBatchLinear, replace_linear, small_batch_matmul
from transformer_lessons.model.norm import LayerNorm, RMSNorm, layer_norm, make_norm, rms_norm
from transformer_lessons.model.rope import (
    apply_rope, dynamic_theta, rope_frequencies, rope_table, rotate, rotate_complex,
    scale_like_llama3, scale_like_yarn, to_interleaved_layout, to_split_layout)
from transformer_lessons.model.state_dict import assign_tensors, check_tensors, own_tensors

__all__ = [
    "Block", "CausalAttention", "Decoder", "Embedding", "FeedForward", "GatedFeedForward",
    "KVCache", "LayerNorm", "RMSNorm", "SmallBatchLinear", "apply_rope", "assign_tensors",
    "attend", "attention_inputs", "attention_weights", "batched_attend", "blocked_attend",
    "causal_mask", "check_tensors", "compiled", "count_parameters", "dynamic_theta",
    "flops_per_token", "fused_attend", "gelu", "inference", "initialize", "kv_bytes", "layer_norm",
    "longest_cached", "make_feedforward", "make_norm", "merge_heads", "own_tensors",
    "parameter_counts", "repeat_heads", "replace_linear", "rms_norm", "rope_frequencies",
    "rope_table", "rotate", "rotate_complex", "scale_like_llama3", "scale_like_yarn",
    "sinusoidal_table", "small_batch_matmul", "split_heads", "swiglu", "to_interleaved_layout",
    "to_split_layout", "training_bytes",
]
