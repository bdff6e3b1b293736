"""How language models work: the package that the book is made of.

Everything a reader needs has a short name here; the modules are the book's parts, in its order.
"""

from transformer_lessons.analysis.attention_patterns import attention_patterns
from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.data.config import DataConfig
from transformer_lessons.device import best_device
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.beam import beam_search
from transformer_lessons.generation.conversation import Conversation
from transformer_lessons.generation.generate import complete, generate, stream
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.attention import attend
from transformer_lessons.model.cache import KVCache
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.feedforward import swiglu
from transformer_lessons.model.norm import layer_norm, rms_norm
from transformer_lessons.model.rope import apply_rope
from transformer_lessons.presets import preset
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tiktoken_tokenizer import TiktokenTokenizer
from transformer_lessons.training.checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from transformer_lessons.training.clipping import clip_grad_norm
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import evaluate
from transformer_lessons.training.loss import cross_entropy
from transformer_lessons.training.optimizer import AdamW, Muon
from transformer_lessons.training.schedule import cosine_schedule
from transformer_lessons.training.trainer import Trainer
from transformer_lessons.weights.pretrained import load_pretrained
from transformer_lessons.weights.save_pretrained import save_pretrained
from transformer_lessons.weights.shipped import load_shipped

__version__ = "0.1.0"  # as in pyproject.toml

__all__ = [
    "AdamW",
    "BPETokenizer",
    "ByteTokenizer",
    "Conversation",
    "DataConfig",
    "Decoder",
    "KVCache",
    "LessonsError",
    "ModelConfig",
    "Muon",
    "RopeScaling",
    "Sampler",
    "TiktokenTokenizer",
    "TrainConfig",
    "Trainer",
    "apply_rope",
    "attend",
    "attention_patterns",
    "beam_search",
    "best_device",
    "clip_grad_norm",
    "complete",
    "cosine_schedule",
    "count_parameters",
    "cross_entropy",
    "evaluate",
    "generate",
    "latest_checkpoint",
    "layer_norm",
    "load_checkpoint",
    "load_pretrained",
    "load_shipped",
    "preset",
    "rms_norm",
    "save_checkpoint",
    "save_pretrained",
    "stream",
    "swiglu",
]
