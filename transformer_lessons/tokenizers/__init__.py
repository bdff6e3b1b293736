"""Text to token ids and back: bytes, byte-pair encoding, tiktoken. Lessons 2 and 3."""

from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.bpe_encoding import apply_merges
from transformer_lessons.tokenizers.bpe_training import count_pretokens, learn_merges
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer, decode_stream, utf8_bytes
from transformer_lessons.tokenizers.pretokenizer import pretokenize
from transformer_lessons.tokenizers.tiktoken_tokenizer import TiktokenTokenizer
from transformer_lessons.tokenizers.tokenizer import Tokenizer, fingerprint, load_tokenizer

# fmt: off
__all__ = [
    "BPETokenizer", "ByteTokenizer", "TiktokenTokenizer", "Tokenizer", "apply_merges",
    "count_pretokens", "decode_stream", "fingerprint", "learn_merges", "load_tokenizer",
    "pretokenize", "utf8_bytes",
]
