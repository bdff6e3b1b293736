"""Looking inside a model."""

from transformer_lessons.analysis.activations import activation_patching, activations, head_ablation
from transformer_lessons.analysis.attention_patterns import attention_patterns, induction_scores
from transformer_lessons.analysis.residual import (
    direct_logit_attribution,
    logit_lens,
    residual_parts,
    residual_streams,
)

__all__ = [
    "activation_patching", "activations", "attention_patterns", "direct_logit_attribution",
    "head_ablation", "induction_scores", "logit_lens", "residual_parts", "residual_streams",
]  # fmt: skip
