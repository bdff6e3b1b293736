"""Hugging Face's `tokenizer.json`, byte-level BPE, as the book's `BPETokenizer`.

    {"added_tokens": [{"id": 0, "content": "<|endoftext|>", "special": true, ...}, ...],
     "normalizer": null,
     "pre_tokenizer": how text is cut into chunks,
     "model": {"type": "BPE", "vocab": {"Ġthe": 266, ...}, "merges": ["Ġ t", ...]}}

Tokens are spelled with GPT-2's characters, one for each byte. How text is cut is recognized among a
few known ways; a regular expression from a file could take for ever, so it is compared, never run.
"""

from pathlib import Path
from typing import Any

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.bpe_files import is_id
from transformer_lessons.support.safetensors_files import read_json_file
from transformer_lessons.support.tokenizer_json import HUGGINGFACE_PATTERNS
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.tiktoken_tokenizer import merges_of_ranks
from transformer_lessons.weights.gguf_tokenizer import bytes_by_character, read_merges, unspell

LARGEST_TOKENIZER = 2**25  # bytes; Llama 3.2's has 17 million
LONGEST_TOKEN = 512  # bytes; the longest of GPT-4 has 128
OTHER_FILES = ("tokenizer.model", "vocab.json", "vocab.txt", "merges.txt")

# The patterns of Llama 3 and Qwen2 as their files have them; those of `HUGGINGFACE_PATTERNS`, which
# the book writes, match the same.
ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PUBLISHED = {"llama3": ENDINGS + r"\p{N}{1,3}" + SIGNS, "qwen2": ENDINGS + r"\p{N}" + SIGNS}
PATTERN_NAMES = {text: name for name, text in HUGGINGFACE_PATTERNS.items()}
PATTERN_NAMES |= {text: name for name, text in PUBLISHED.items()}
DIGITS = {"type": "Digits", "individual_digits": True}


def folder_tokenizer(folder: Path) -> BPETokenizer | None:
    """The tokenizer of a folder: None if no file is there, `LessonsError` for an unknown kind."""
    if (folder / "tokenizer.json").exists():
        return read_huggingface_tokenizer(folder / "tokenizer.json")
    if found := [name for name in OTHER_FILES if (folder / name).exists()]:
        what = f"the tokenizer is in {found[0]}, which can't be read; tokenizer.json is missing"
        remedy = "transformers can write it: AutoTokenizer.from_pretrained, then save_pretrained."
        raise LessonsError(what, where=str(folder), remedy=remedy)
    return None


def read_huggingface_tokenizer(path: Path | str) -> BPETokenizer:
    """The tokenizer in a `tokenizer.json`, with the file's ids.

    Every added token is a special token of ours. `encode` gives what `tokenizers` gives with
    `add_special_tokens=False`: what belongs around a text is left to the caller. A byte that the
    vocabulary lacks (SmolLM2's lacks 21) is an error when a text needs it; `tokenizers` leaves it
    out. What else is unknown raises `LessonsError`.
    """
    path = Path(path)
    document, where = read_json_file(path.parent, path.name, LARGEST_TOKENIZER), str(path)
    model = document.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise LessonsError("model is not BPE", where=where)
    check_model(model, where)
    if (normalizer := document.get("normalizer")) not in (None, {"type": "NFC"}):
        raise LessonsError("a normalizer other than NFC is not known", where=where)
    decoder = document.get("decoder")
    if not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel":
        raise LessonsError("decoder is not ByteLevel", where=where)
    pattern = pattern_of(document.get("pre_tokenizer"), f"{where}, pre_tokenizer")
    special = read_added_tokens(document.get("added_tokens"), f"{where}, added_tokens")
    vocab = read_vocab(model.get("vocab"), special, f"{where}, vocab")
    tokens = set(vocab.values())
    merges = read_pairs(model.get("merges"), tokens, f"{where}, merges")
    missing_bytes = [byte for byte in range(256) if bytes([byte]) not in tokens]
    try:
        normal_form = normalizer and normalizer["type"]
        return BPETokenizer(vocab, merges, list(special), pattern, missing_bytes, normal_form)
    except LessonsError as error:
        place = f"{where}, {error.where}"
        raise LessonsError(error.what, where=place, remedy=error.remedy) from None


def check_model(model: dict[str, Any], where: str) -> None:
    """Raise `LessonsError` for a variant of BPE that is not on bytes, or not the same each time."""
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(name) not in (None, "", False):
            what = f"{name} = {repr(model[name])[:40]} is not known"
            raise LessonsError(what, where=where)


def pattern_of(pre_tokenizer: Any, where: str) -> str:
    """The name in `splitting.PATTERNS` of the way a file cuts text into chunks.

    Known are GPT-2's (ByteLevel alone), SmolLM2's (Digits, then ByteLevel) and a Split by one of
    the known patterns, followed by ByteLevel.

    >>> byte_level = {"type": "ByteLevel", "add_prefix_space": False}
    >>> pattern_of(byte_level, "a"), pattern_of(
    ...     {"type": "Sequence", "pretokenizers": [
    ...         {"type": "Digits", "individual_digits": True}, byte_level]}, "b")
    ('gpt2', 'smollm2')
    """
    remedy = "Known are those of GPT-2, GPT-4, Llama 3, Qwen2 and SmolLM2."
    steps = pre_tokenizer
    if isinstance(steps, dict) and steps.get("type") == "Sequence":
        steps = steps.get("pretokenizers")
    steps = steps if isinstance(steps, list) else [steps]
    if all(isinstance(step, dict) for step in steps) and 1 <= len(steps) <= 2:
        *first, last = steps
        is_bytes = last.get("type") == "ByteLevel" and last.get("add_prefix_space") is False
        splits = last.get("use_regex", True)
        if is_bytes and splits is True and not first:
            return "gpt2"
        if is_bytes and splits is True and first == [DIGITS]:
            return "smollm2"
        if is_bytes and splits is False and first and (name := split_name(first[0])):
            return name
    raise LessonsError("an unknown way of cutting text", where=where, remedy=remedy)


def split_name(step: dict[str, Any]) -> str | None:
    """The name of the pattern of a Split, None if it is not known."""
    pattern = step.get("pattern")
    regex = pattern.get("Regex") if isinstance(pattern, dict) else None
    kind = step.get("type"), step.get("behavior"), step.get("invert")
    if kind != ("Split", "Isolated", False) or not isinstance(regex, str):
        return None
    return PATTERN_NAMES.get(regex)


def read_added_tokens(entries: Any, where: str) -> dict[str, int]:
    """The ids of the added tokens, by their text."""
    tokens: dict[str, int] = {}
    for place, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        at = f"{where}[{place}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise LessonsError("not a token with a content", where=at)
        if not is_id(entry.get("id")):
            raise LessonsError("id is not 0, 1, 2, …", where=at)
        for name in ("single_word", "lstrip", "rstrip"):
            if entry.get(name, False) is not False:
                what = f"{name} of {entry['content'][:40]!r} is not known"
                raise LessonsError(what, where=at)
        if entry["content"] in tokens or entry["id"] in tokens.values():
            raise LessonsError("the token, or its id, is there twice", where=at)
        tokens[entry["content"]] = entry["id"]
    return tokens


def read_vocab(entries: Any, special: dict[str, int], where: str) -> dict[int, bytes]:
    """The bytes of each token by id, special tokens included."""
    if not isinstance(entries, dict) or not all(is_id(id) for id in entries.values()):
        raise LessonsError("not an object with an id for each token", where=where)
    byte_of, vocab = bytes_by_character(), {}
    for text, id in entries.items():
        if id in vocab:
            raise LessonsError(f"the id {id} is there twice", where=where)
        if special.get(text, id) != id:
            raise LessonsError(f"{text[:40]!r} has two ids", where=where)
        vocab[id] = utf8(text, where) if text in special else unspell(text, byte_of, where)
        if len(vocab[id]) > LONGEST_TOKEN:
            raise LessonsError(f"token {id} has over {LONGEST_TOKEN} bytes", where=where)
    for text, id in special.items():
        if id in vocab and vocab[id] != utf8(text, where):
            raise LessonsError(f"the id {id} of {text[:40]!r} is taken", where=where)
        vocab[id] = utf8(text, where)
    return vocab


def utf8(text: str, where: str) -> bytes:
    """The bytes of a special token; JSON can spell half a character."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise LessonsError(f"{text[:40]!r} is not text", where=where) from None


def read_pairs(entries: Any, tokens: set[bytes], where: str) -> list[tuple[bytes, bytes]]:
    """The merges, spelled "a b" or ["a", "b"], one for each token that is made.

    Llama 3's file lists every pair of tokens that joins to a third, and so means: join two whenever
    the result is a token, the earliest first. A list with some of those pairs would mean something
    else, and raises `LessonsError`.
    """
    if not isinstance(entries, list):
        raise LessonsError("not a list", where=where)
    lines = [" ".join(entry) if is_pair(entry) else entry for entry in entries]
    if not all(isinstance(line, str) for line in lines):
        raise LessonsError("not a list of pairs of tokens", where=where)
    merges = read_merges(lines, where)
    made = dict.fromkeys(left + right for left, right in merges)  # each once, in order
    if unknown := made.keys() - tokens:
        raise LessonsError(f"{min(unknown)!r} is not in the vocabulary", where=where)
    if len(made) == len(merges):
        return merges
    pairs = {(token[:i], token[i:]) for token in made for i in range(1, len(token))}
    if len(set(merges)) < len(merges) or set(merges) != {
        pair for pair in pairs if tokens.issuperset(pair)
    }:
        what = "some tokens have several merges, but not every merge that could make them"
        raise LessonsError(what, where=where)
    return merges_of_ranks({token: rank for rank, token in enumerate(made)})


def is_pair(entry: Any) -> bool:
    """Whether `entry` is a merge in the newer spelling."""
    return isinstance(entry, list) and len(entry) == 2 and all(isinstance(s, str) for s in entry)
