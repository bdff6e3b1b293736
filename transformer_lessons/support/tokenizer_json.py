"""A BPE tokenizer as Hugging Face's `tokenizer.json`, which the library `tokenizers` opens."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import replace_file

# The patterns of `splitting.PATTERNS` in the dialect of `tokenizers`: some possessive quantifiers
# mean something else there, and $ is the end of a line. They match the same; a test compares.
HUGGINGFACE_PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]+|\s+(?!\S)|\s+",
    "smollm2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|"
    r"\s+(?=\p{N})|\s+(?!\S)|\s+",
    "llama3": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def byte_characters() -> list[str]:
    """GPT-2's printable character for each byte: itself if it can be seen, else one from U+0100 on.

    Source: Radford et al. 2019, `bytes_to_unicode` in the GPT-2 code.

    >>> characters = byte_characters()
    >>> characters[ord("a")], characters[ord(" ")]
    ('a', 'Ġ')
    """
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in seen)
    characters = {byte: chr(byte) for byte in seen}
    characters |= {byte: chr(256 + place) for place, byte in enumerate(others)}
    return [characters[byte] for byte in range(256)]


def write_huggingface(
    path: Path,
    vocab: Mapping[int, bytes],
    merges: Sequence[tuple[bytes, bytes]],
    special_tokens: Mapping[str, int],
    pattern: str,
    normal_form: str | None = None,
) -> None:
    """Write `tokenizer.json`: ids as in `vocab`, tokens spelled with `byte_characters`.

    Special tokens stand in the vocabulary too, or `tokenizers` would number them itself. One that
    is already the spelling of an ordinary token raises `LessonsError`.
    """
    characters, special = byte_characters(), set(special_tokens.values())

    def spell(token: bytes) -> str:
        return "".join(characters[byte] for byte in token)

    spelled = {spell(token): id for id, token in vocab.items() if id not in special}
    for text in special_tokens:
        if text in spelled:
            what = f"the special token {text!r} is also how the token {spelled[text]} is spelled"
            raise LessonsError(what, where="special_tokens", remedy="Use another special token.")
    split = {"type": "Split", "pattern": {"Regex": HUGGINGFACE_PATTERNS[pattern]}}
    split |= {"behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    byte_level |= {"use_regex": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    document = {
        "version": "1.0",
        "added_tokens": [
            {"id": id, "content": text, **flags, "special": True}
            for text, id in special_tokens.items()
        ],
        "normalizer": normal_form and {"type": normal_form},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": spelled | dict(special_tokens),
            "merges": [[spell(left), spell(right)] for left, right in merges],
        },
    }
    replace_file(path, json.dumps(document, ensure_ascii=False) + "\n")
