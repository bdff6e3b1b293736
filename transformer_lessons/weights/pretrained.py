"""Pretrained models from the files they are published in."""

from pathlib import Path

import torch

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.weights.gguf_model import load_gguf
from transformer_lessons.weights.huggingface import load_huggingface


def load_pretrained(
    path: Path | str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Decoder, BPETokenizer | None]:
    """A published model in the book's own `Decoder`, and its tokenizer.

    `path` is a Hugging Face folder (`config.json`, `model.safetensors`, `tokenizer.json`) or a
    `.gguf` file. The weights come in `dtype` on `device`, one tensor at a time; every tensor of the
    files is used exactly once. Without any tokenizer in the files, it is None.

    An architecture, a feature or a tensor that the decoder doesn't have, and a file that is damaged
    or leads out of its folder, raise `LessonsError` and are named. Nothing in the files is run.
    """
    path = Path(path)
    if path.suffix == ".gguf":
        return load_gguf(path, dtype, device)
    if not path.is_dir():
        remedy = "Give a folder with config.json and model.safetensors, or a .gguf file."
        raise LessonsError("not a folder, nor a .gguf file", where=str(path), remedy=remedy)
    return load_huggingface(path, dtype, device)
