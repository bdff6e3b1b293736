"""What the byte map of lesson 26 shows: a small GGUF file as a script. `publish.py` writes it.

The file is the lesson's: an untrained model with one block and four tokens, weights in Q8_0.
"""

import base64
import tempfile
from pathlib import Path

import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.weights.gguf_writing import save_gguf

CONFIG = ModelConfig(
    *(4, 16, 32, 1, 2, 32),
    n_kv_heads=1,
    norm="rms",
    ffn="swiglu",
    bias=False,
    head_bias=False,
    tie_embeddings=True,
)


def small_file() -> bytes:
    """The bytes of the file."""
    torch.manual_seed(0)
    lacking = [byte for byte in range(256) if byte not in b"ab"]
    vocab = {0: b"a", 1: b"b", 2: b"ab"}
    tokenizer = BPETokenizer(vocab, [(b"a", b"b")], ["<|end|>"], "gpt2", lacking)
    with tempfile.TemporaryDirectory() as folder:
        save_gguf(Decoder(CONFIG), tokenizer, path := Path(folder) / "small.gguf", "Q8_0")
        return path.read_bytes()


def bytes_script() -> str:
    """The script that sets `TransformerLessons.small_gguf`, the file in base64."""
    encoded = base64.b64encode(small_file()).decode("ascii")
    lines = (encoded[start : start + 100] for start in range(0, len(encoded), 100))
    return "TransformerLessons.small_gguf = `\n" + "\n".join(lines) + "`;\n"
