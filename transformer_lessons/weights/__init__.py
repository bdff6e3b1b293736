"""Real models: reading the files of others, quantization, and writing ours for others."""

from transformer_lessons.weights.chat_template import ChatTemplate, load_chat_template
from transformer_lessons.weights.export import export_json, export_page_model
from transformer_lessons.weights.gguf_blocks import dequantize
from transformer_lessons.weights.gguf_writing import save_gguf
from transformer_lessons.weights.gptq import gptq, second_moments
from transformer_lessons.weights.growth import deepen, widen_feedforward, widen_residual
from transformer_lessons.weights.lora import (
    LoraLinear,
    add_lora,
    load_lora,
    merge_lora,
    save_lora,
)
from transformer_lessons.weights.onnx_export import export_onnx
from transformer_lessons.weights.pretrained import load_pretrained
from transformer_lessons.weights.quantize import Int4Linear, Int8Linear, round_to_groups
from transformer_lessons.weights.save_pretrained import save_pretrained
from transformer_lessons.weights.shipped import load_shipped

__all__ = [
    "ChatTemplate",
    "Int4Linear",
    "Int8Linear",
    "LoraLinear",
    "add_lora",
    "deepen",
    "dequantize",
    "export_json",
    "export_onnx",
    "export_page_model",
    "gptq",
    "load_chat_template",
    "load_lora",
    "load_pretrained",
    "load_shipped",
    "merge_lora",
    "round_to_groups",
    "save_gguf",
    "save_lora",
    "save_pretrained",
    "second_moments",
    "widen_feedforward",
    "widen_residual",
]
