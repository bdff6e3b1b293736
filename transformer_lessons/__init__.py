"""How language models work: the package that the book is made of.

Everything a reader needs has a short name here; the sub-packages are the book's parts, in its
order, and each offers its public names (`from transformer_lessons.training import AdamW`).
A name is loaded when it is asked for: what needs no PyTorch doesn't wait for it.
"""

from typing import TYPE_CHECKING

from transformer_lessons.lazy import lazy_names

if TYPE_CHECKING:  # for type checkers, which don't run `__getattr__`
    from transformer_lessons.analysis import attention_patterns
    from transformer_lessons.config import ModelConfig, RopeScaling
    from transformer_lessons.data import DataConfig, batches_from_text
    from transformer_lessons.device import best_device
    from transformer_lessons.errors import LessonsError
    from transformer_lessons.generation import (
        Conversation,
        Sampler,
        beam_search,
        complete,
        generate,
        stream,
    )
    from transformer_lessons.model import (
        Decoder,
        KVCache,
        apply_rope,
        attend,
        count_parameters,
        layer_norm,
        rms_norm,
        swiglu,
    )
    from transformer_lessons.presets import preset
    from transformer_lessons.tokenizers import (
        BPETokenizer,
        ByteTokenizer,
        TiktokenTokenizer,
        load_tokenizer,
    )
    from transformer_lessons.training import (
        AdamW,
        Muon,
        TrainConfig,
        Trainer,
        clip_grad_norm,
        cosine_schedule,
        cross_entropy,
        latest_checkpoint,
        linear_cross_entropy,
        load_checkpoint,
        save_checkpoint,
    )
    from transformer_lessons.training.evaluate import evaluate  # the module has the same name
    from transformer_lessons.weights import load_pretrained, load_shipped, save_pretrained

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
    "batches_from_text",
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
    "linear_cross_entropy",
    "load_checkpoint",
    "load_pretrained",
    "load_shipped",
    "load_tokenizer",
    "preset",
    "rms_norm",
    "save_checkpoint",
    "save_pretrained",
    "stream",
    "swiglu",
]

_PLACES = {
    "analysis": ["attention_patterns"],
    "config": ["ModelConfig", "RopeScaling"],
    "data": ["DataConfig", "batches_from_text"],
    "device": ["best_device"],
    "errors": ["LessonsError"],
    "generation": ["Conversation", "Sampler", "beam_search", "complete", "generate", "stream"],
    "model": ["Decoder", "KVCache", "apply_rope", "attend", "count_parameters", "layer_norm",
              "rms_norm", "swiglu"],
    "presets": ["preset"],
    "tokenizers": ["BPETokenizer", "ByteTokenizer", "TiktokenTokenizer", "load_tokenizer"],
    "training": ["AdamW", "Muon", "TrainConfig", "Trainer", "clip_grad_norm", "cosine_schedule",
                 "cross_entropy", "latest_checkpoint", "linear_cross_entropy", "load_checkpoint",
                 "save_checkpoint"],
    "training.evaluate": ["evaluate"],
    "weights": ["load_pretrained", "load_shipped", "save_pretrained"],
}  # fmt: skip

__getattr__ = lazy_names(__name__, _PLACES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
