"""The tokenizer in the metadata of a GGUF file, as the book's `BPETokenizer`.

    tokenizer.ggml.model        "gpt2": byte-pair encoding on bytes
    tokenizer.ggml.pre          how text is cut into chunks first, by name: "smollm"
    tokenizer.ggml.tokens       the tokens by id, spelled with GPT-2's characters: "Ġthe"
    tokenizer.ggml.token_type   1 ordinary, 3 control (special), 4 defined by users, 5 unused
    tokenizer.ggml.merges       "Ġ t", "Ġ a", ...: two tokens and a space between

Other models of tokenizers, SentencePiece's say, raise `LessonsError`.
Source: llama.cpp's src/llama-vocab.cpp, where the names of `tokenizer.ggml.pre` are defined.
"""

from typing import Any

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.gguf_file import GGUFFile
from transformer_lessons.support.tokenizer_json import byte_characters
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.tiktoken_tokenizer import merges_of_ranks

PATTERN_NAMES = {
    **{"gpt-2": "gpt2", "smollm": "smollm2", "qwen2": "qwen2"},
    **{"llama-bpe": "llama3", "llama-v3": "llama3", "llama3": "llama3"},
}
ORDINARY, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


def gguf_tokenizer(file: GGUFFile) -> BPETokenizer | None:
    """The tokenizer of a GGUF file, with the file's ids; None if the file has none.

    Control tokens and those that users defined are special tokens; ids of unused ones stay free.
    What doesn't fit raises `LessonsError`.
    """
    if "tokenizer.ggml.model" not in file.metadata:
        return None
    try:
        return tokenizer_of(file.metadata)
    except LessonsError as error:  # name the file as well as the field
        where = f"{file.path}, {error.where}"
        raise LessonsError(error.what, where=where, remedy=error.remedy) from None


def tokenizer_of(metadata: dict[str, Any]) -> BPETokenizer:
    """The tokenizer that the metadata describes.

    Llama 3 lists every pair that could make a token, and goes by the order of the ids instead.
    """
    if (model := metadata["tokenizer.ggml.model"]) != "gpt2":
        what = f"{str(model)[:40]!r} is not gpt2, byte-pair encoding on bytes"
        remedy = "The model alone can be read: gguf_decoder(read_gguf(path))."
        raise LessonsError(what, where="tokenizer.ggml.model", remedy=remedy)
    pre = metadata.get("tokenizer.ggml.pre")
    if not isinstance(pre, str) or pre not in PATTERN_NAMES:
        what = f"{str(pre)[:40]!r} is no way of splitting text that can be read"
        remedy = f"Known: {', '.join(PATTERN_NAMES)}."
        raise LessonsError(what, where="tokenizer.ggml.pre", remedy=remedy)
    vocab, special = read_tokens(metadata)
    if PATTERN_NAMES[pre] == "llama3":
        ids = {token: id for id, token in vocab.items() if id not in special}
        merges = merges_of_ranks(ids)
    else:
        merges = read_merges(strings(metadata, "tokenizer.ggml.merges"), "tokenizer.ggml.merges")
    tokens = set(vocab.values())
    missing_bytes = [byte for byte in range(256) if bytes([byte]) not in tokens]
    names = list(special.values())
    normal_form = "NFC" if pre == "qwen2" else None  # as its tokenizer.json says; GGUF doesn't
    return BPETokenizer(vocab, merges, names, PATTERN_NAMES[pre], missing_bytes, normal_form)


def strings(metadata: dict[str, Any], key: str) -> list[str]:
    """A list of strings in the metadata."""
    values = metadata.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise LessonsError("not a list of strings", where=key)
    return values


def read_tokens(metadata: dict[str, Any]) -> tuple[dict[int, bytes], dict[int, str]]:
    """The bytes of each token by id, and the texts of those that are special."""
    spelled = strings(metadata, "tokenizer.ggml.tokens")
    types = metadata.get("tokenizer.ggml.token_type")
    if not isinstance(types, list) or len(types) != len(spelled):
        raise LessonsError("not a type for each token", where="tokenizer.ggml.token_type")
    byte_of, vocab, special = bytes_by_character(), {}, {}
    for id, (text, kind) in enumerate(zip(spelled, types, strict=True)):
        where = f"tokenizer.ggml.tokens[{id}]"
        if kind == ORDINARY:
            vocab[id] = unspell(text, byte_of, where)
        elif kind in (CONTROL, USER_DEFINED):
            vocab[id], special[id] = text.encode("utf-8"), text
        elif kind != UNUSED:
            what = f"{text[:40]!r} has the type {str(kind)[:40]}, which is not 1, 3, 4 or 5"
            raise LessonsError(what, where=where)
    return vocab, special


def read_merges(lines: list[str], where: str) -> list[tuple[bytes, bytes]]:
    """The two halves of each merge."""
    byte_of = bytes_by_character()
    merges = []
    for rank, line in enumerate(lines):
        at = f"{where}[{rank}]"
        halves = line.split(" ")
        if len(halves) != 2:
            raise LessonsError(f"{line[:40]!r} is not two tokens and a space", where=at)
        merges.append((unspell(halves[0], byte_of, at), unspell(halves[1], byte_of, at)))
    return merges


def bytes_by_character() -> dict[str, int]:
    """The byte that each of GPT-2's characters stands for."""
    return {character: byte for byte, character in enumerate(byte_characters())}


def unspell(text: str, byte_of: dict[str, int], where: str) -> bytes:
    """The bytes of a token that is spelled with GPT-2's characters.

    >>> unspell("Ġthe", bytes_by_character(), "a token")
    b' the'
    """
    try:
        return bytes([byte_of[character] for character in text])
    except KeyError as error:
        what = f"{text[:40]!r} has a character that stands for no byte, {error}"
        raise LessonsError(what, where=where) from None
