"""Byte-pair encoding: what each contestant does. Every function here returns a `Work`.

Imports are inside the functions: a process loads only the program that it measures.
"""

import hashlib
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.corpus import hostile_text, python_text
from benchmarks.worker import Work

Vocab = str | Sequence[int]  # cl100k_base, or what rustbpe learns: [bytes of text, vocabulary]
PIECE = 100_000  # characters: how training text is handed to peers, which share pieces out


def pieces_of(text: str) -> list[str]:
    """`text` in pieces, for programs that work on several texts at once; no pre-token is cut."""
    from transformer_lessons.tokenizers.pretokenizer import safe_blocks

    return list(safe_blocks([text], size=PIECE))


def digest(ids: Iterable[int]) -> str:
    """A short name of a list of ids: equal lists have equal ones."""
    return hashlib.sha256(array("I", ids).tobytes()).hexdigest()[:16]


def train_ours(n_bytes: int, vocab_size: int, n_workers: int = 1, accented: bool = False) -> Work:
    """`BPETokenizer.train`."""
    from transformer_lessons.tokenizers.bpe import BPETokenizer

    text = python_text(n_bytes, accented)
    return Work(
        lambda: BPETokenizer.train(text, vocab_size, n_workers=n_workers),
        lambda tokenizer: len(tokenizer.merges),
    )


def train_naively(n_bytes: int, vocab_size: int) -> Work:
    """`learn_merges_naively`, counting included."""
    from benchmarks.naive_bpe import learn_merges_naively
    from transformer_lessons.tokenizers.bpe_training import count_pretokens

    text = python_text(n_bytes)
    return Work(lambda: learn_merges_naively(count_pretokens([text]), vocab_size - 256), len)


def train_rustbpe(n_bytes: int, vocab_size: int) -> Work:
    """rustbpe, nanochat's trainer in Rust."""
    import rustbpe

    from transformer_lessons.tokenizers.pretokenizer import PATTERNS

    pieces = pieces_of(python_text(n_bytes))

    def run() -> Any:
        tokenizer = rustbpe.Tokenizer()
        tokenizer.train_from_iterator(iter(pieces), vocab_size, pattern=PATTERNS["gpt4"])
        return tokenizer

    return Work(run, lambda tokenizer: len(tokenizer.get_mergeable_ranks()) - 256)


def train_huggingface(n_bytes: int, vocab_size: int) -> Work:
    """Hugging Face's `tokenizers`, in Rust: byte-level BPE with the same split."""
    import tokenizers
    from tokenizers import pre_tokenizers

    from transformer_lessons.support.tokenizer_json import HUGGINGFACE_PATTERNS

    pieces = pieces_of(python_text(n_bytes))
    alphabet = pre_tokenizers.ByteLevel.alphabet()

    def run() -> tokenizers.Tokenizer:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        pattern = tokenizers.Regex(HUGGINGFACE_PATTERNS["gpt4"])
        split = pre_tokenizers.Split(pattern, "isolated")
        spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, spell])
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(pieces, trainer)
        return tokenizer

    return Work(run, lambda tokenizer: tokenizer.get_vocab_size() - 256)


def encode_ours(n_bytes: int, vocab: Vocab, remember: bool = False, accented: bool = False) -> Work:
    """`BPETokenizer.encode_ordinary`; without `remember`, no pre-token was seen before."""
    tokenizer, text = load(vocab), python_text(n_bytes, accented)
    forget = (lambda: None) if remember else tokenizer.encode_cached.cache_clear
    return Work(lambda: tokenizer.encode_ordinary(text), digest, forget)


def encode_to_tiktoken(n_bytes: int, vocab: Vocab, accented: bool = False) -> Work:
    """`BPETokenizer.to_tiktoken`, once, and then its `encode_ordinary`."""
    encoding, text = load(vocab).to_tiktoken(), python_text(n_bytes, accented)
    return Work(lambda: encoding.encode_ordinary(text), digest)


def encode_tiktoken(n_bytes: int, vocab: Vocab, accented: bool = False) -> Work:
    """OpenAI's tiktoken, in Rust: its own cl100k_base, or the ranks that rustbpe learned."""
    import tiktoken

    from transformer_lessons.tokenizers.pretokenizer import PATTERNS
    from transformer_lessons.tokenizers.tiktoken_tokenizer import TiktokenTokenizer

    text = python_text(n_bytes, accented)
    if vocab == "cl100k_base":
        encoding = TiktokenTokenizer("cl100k_base").encoding
    else:
        ranks = dict(rust_tokenizer(vocab).get_mergeable_ranks())
        ranks = {bytes(token): rank for token, rank in ranks.items()}
        encoding = tiktoken.Encoding(
            "rust", pat_str=PATTERNS["gpt4"], mergeable_ranks=ranks, special_tokens={}
        )
    return Work(lambda: encoding.encode_ordinary(text), digest)


def encode_rustbpe(n_bytes: int, vocab: Vocab) -> Work:
    """rustbpe, which can only encode with what it has learned itself."""
    tokenizer, text = rust_tokenizer(vocab), python_text(n_bytes)
    return Work(lambda: tokenizer.encode(text), digest)


def encode_huggingface(n_bytes: int, vocab: Vocab, in_pieces: bool, accented: bool = False) -> Work:
    """Hugging Face's `tokenizers`: the text at once, or in pieces that no pre-token goes across."""
    import tokenizers

    from transformer_lessons.tokenizers.pretokenizer import safe_blocks

    text = python_text(n_bytes, accented)
    with tempfile.TemporaryDirectory() as folder:
        load(vocab).to_huggingface(Path(folder) / "tokenizer.json")
        tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    texts = list(safe_blocks([text], size=PIECE)) if in_pieces else [text]
    return Work(
        lambda: tokenizer.encode_batch_fast(texts),
        lambda encoded: digest(id for one in encoded for id in one.ids),
    )


def hostile(program: str, kind: str, sizes: Sequence[int]) -> Work:
    """Encode, or learn from, `sizes` characters of hostile text; the result: seconds for each."""
    import time

    from transformer_lessons.tokenizers.tiktoken_tokenizer import TiktokenTokenizer

    encoding = TiktokenTokenizer("cl100k_base").encoding
    if program == "ours":
        from transformer_lessons.tokenizers.bpe import BPETokenizer

        tokenizer = BPETokenizer.from_tiktoken(encoding)
        encode = tokenizer.encode_ordinary
    elif program == "ours, training":
        from transformer_lessons.tokenizers.bpe_training import learn_merges

        def encode(text: str) -> object:
            return learn_merges({text.encode(): 1}, 4_096 - 256)
    else:
        encode = encoding.encode_ordinary

    def run() -> list[float | None]:
        seconds: list[float | None] = []
        for n in sizes:
            text = hostile_text(kind, n)
            start = time.perf_counter()
            try:
                encode(text)
                seconds.append(time.perf_counter() - start)
            except KeyboardInterrupt:
                raise
            except BaseException:  # a panic in Rust is no Exception
                seconds.append(None)
        return seconds

    return Work(run, list)


def rust_tokenizer(vocab: Sequence[int]) -> Any:
    """What rustbpe learns from so many bytes, for so large a vocabulary; each time the same."""
    import rustbpe

    from transformer_lessons.tokenizers.pretokenizer import PATTERNS

    n_bytes, vocab_size = vocab
    tokenizer = rustbpe.Tokenizer()
    pieces = pieces_of(python_text(n_bytes))
    tokenizer.train_from_iterator(iter(pieces), vocab_size, pattern=PATTERNS["gpt4"])
    return tokenizer


def load(vocab: Vocab) -> Any:
    """The book's tokenizer with the vocabulary of `cl100k_base` or of `rust_tokenizer`."""
    from transformer_lessons.tokenizers.bpe import BPETokenizer
    from transformer_lessons.tokenizers.tiktoken_tokenizer import TiktokenTokenizer

    if vocab == "cl100k_base":
        return BPETokenizer.from_tiktoken(TiktokenTokenizer("cl100k_base").encoding)
    ranks = {bytes(token): rank for token, rank in rust_tokenizer(vocab).get_mergeable_ranks()}
    by_rank = {rank: token for token, rank in ranks.items()}
    return BPETokenizer(by_rank, None)
