"""Looking inside a model."""

from transformer_lessons.analysis.attention_patterns import attention_patterns

__all__ = ["attention_patterns"]
