"""A BPE tokenizer as Hugging Face's `tokenizer.json`, which the library `tokenizers` opens.

    {"added_tokens": [{"id": 0, "content": "<|endoftext|>", "special": true, ...}, ...],
     "normalizer": null,
     "pre_tokenizer": how text is cut into pre-tokens,
     "model": {"type": "BPE", "vocab": {"Ġthe": 266, ...}, "merges": ["Ġ t", ...]}}

Tokens are spelled with GPT-2's characters, one for each byte. How a file cuts text is recognized
among a few known ways: a regular expression from a file could take for ever, so none is ever run.
"""

import json
from pathlib import Path
from typing import Any

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.bpe_files import BPEParts, is_id, lacking_bytes
from transformer_lessons.support.files import read_json, replace_file

# The patterns of `pretokenizer.PATTERNS` in the dialect of `tokenizers`, where possessive
# quantifiers and $ mean something else. They match the same: a test compares.
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
# As the files of Llama 3 and Qwen2 have them; those above match the same.
ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PUBLISHED = {"llama3": ENDINGS + r"\p{N}{1,3}" + SIGNS, "qwen2": ENDINGS + r"\p{N}" + SIGNS}
PATTERN_NAMES = {text: name for name, text in HUGGINGFACE_PATTERNS.items()}
PATTERN_NAMES |= {text: name for name, text in PUBLISHED.items()}
DIGITS = {"type": "Digits", "individual_digits": True}
LARGEST, LONGEST_TOKEN = 2**25, 512  # bytes; Llama 3.2's file has 17 million, its tokens 128
OTHER_FILES = ("tokenizer.model", "vocab.json", "vocab.txt", "merges.txt")


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


CHARACTERS = byte_characters()
BYTE_OF = {character: byte for byte, character in enumerate(CHARACTERS)}


def spell(token: bytes) -> str:
    """A token, spelled with GPT-2's characters."""
    return "".join([CHARACTERS[byte] for byte in token])


def unspell(text: str, where: str) -> bytes:
    """The bytes of a token that is spelled with GPT-2's characters.

    >>> unspell("Ġthe", "a token")
    b' the'
    """
    try:
        return bytes([BYTE_OF[character] for character in text])
    except KeyError as error:
        what = f"{text[:40]!r} has a character that stands for no byte, {error}"
        raise LessonsError(what, where=where) from None


def write_huggingface(path: Path, parts: BPEParts) -> None:
    """Write `tokenizer.json`, with the ids of `parts`.

    Special tokens stand in the vocabulary too, or `tokenizers` would number them itself.
    """
    special = parts.special_ids
    ordinary = parts.vocab.keys() - special.values()
    spelled = {spell(token): id for id, token in parts.vocab.items() if id in ordinary}
    for text in special.keys() & spelled.keys():
        what = f"the special token {text!r} is also how the token {spelled[text]} is spelled"
        raise LessonsError(what, where="special_tokens", remedy="Use another special token.")
    pattern = {"Regex": HUGGINGFACE_PATTERNS[parts.pattern]}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    level |= {"trim_offsets": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    document = {
        "version": "1.0",
        "added_tokens": [
            {"id": id, "content": text, **flags, "special": True} for text, id in special.items()
        ],
        "normalizer": parts.normal_form and {"type": parts.normal_form},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "vocab": spelled | special,
            "merges": [[spell(left), spell(right)] for left, right in parts.merges or ()],
        },
    }
    replace_file(path, json.dumps(document, ensure_ascii=False) + "\n")


def find_huggingface(folder: Path) -> Path | None:
    """The `tokenizer.json` of a folder; None without any tokenizer, an error for other kinds."""
    if (folder / "tokenizer.json").exists():
        return folder / "tokenizer.json"
    if found := [name for name in OTHER_FILES if (folder / name).exists()]:
        what = f"the tokenizer is in {found[0]}, which can't be read; tokenizer.json is missing"
        remedy = "transformers can write it: AutoTokenizer.from_pretrained, then save_pretrained."
        raise LessonsError(what, where=str(folder), remedy=remedy)
    return None


def read_huggingface(path: Path) -> BPEParts:
    """The tokenizer in a `tokenizer.json`, with the file's ids; what is unknown raises.

    Every added token is a special token of ours. Errors name a place; `errors_in` adds the file.
    """
    if path.is_file() and path.stat().st_size > LARGEST:
        raise LessonsError(f"over {LARGEST:,} bytes")
    document = read_json(path)
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise LessonsError("model is not BPE")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(name) not in (None, "", False):
            raise LessonsError(f"{name} = {repr(model[name])[:40]} is not known")
    if (normalizer := document.get("normalizer")) not in (None, {"type": "NFC"}):
        raise LessonsError("a normalizer other than NFC is not known")
    decoder = document.get("decoder")
    if not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel":
        raise LessonsError("decoder is not ByteLevel")
    pattern = pattern_of(document.get("pre_tokenizer"), "pre_tokenizer")
    special = read_added_tokens(document.get("added_tokens"), "added_tokens")
    vocab = read_vocab(model.get("vocab"), special, "vocab")
    if not isinstance(entries := model.get("merges"), list):
        raise LessonsError("not a list", where="merges")
    merges = spelled_merges(entries, vocab, "merges")
    normal_form = normalizer and normalizer["type"]
    return BPEParts(vocab, merges, list(special), pattern, lacking_bytes(vocab), normal_form)


def pattern_of(pre_tokenizer: Any, where: str) -> str:
    """The name in `pretokenizer.PATTERNS` of the way a file cuts text into pre-tokens.

    Known are ByteLevel alone (GPT-2), Digits before it (SmolLM2), or a known Split.
    """
    steps = pre_tokenizer
    if isinstance(steps, dict) and steps.get("type") == "Sequence":
        steps = steps.get("pretokenizers")
    steps = steps if isinstance(steps, list) else [steps]
    if all(isinstance(step, dict) for step in steps) and 1 <= len(steps) <= 2:
        *first, last = steps
        is_bytes = last.get("type") == "ByteLevel" and last.get("add_prefix_space") is False
        splits = last.get("use_regex", True)
        if is_bytes and splits is True and first in ([], [DIGITS]):
            return "smollm2" if first else "gpt2"
        if is_bytes and splits is False and first:
            pattern = first[0].get("pattern")
            found = pattern.get("Regex") if isinstance(pattern, dict) else None
            kind = first[0].get("type"), first[0].get("behavior"), first[0].get("invert")
            if kind == ("Split", "Isolated", False) and str(found) in PATTERN_NAMES:
                return PATTERN_NAMES[str(found)]
    remedy = "Known are those of GPT-2, GPT-4, Llama 3, Qwen2 and SmolLM2."
    raise LessonsError("an unknown way of cutting text", where=where, remedy=remedy)


def read_added_tokens(entries: Any, where: str) -> dict[str, int]:
    """The ids of the added tokens, by their text."""
    tokens: dict[str, int] = {}
    for place, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        at = f"{where}[{place}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise LessonsError("not a token with a content", where=at)
        if not is_id(entry.get("id")):
            raise LessonsError("id is not 0, 1, 2, …", where=at)
        text, id = entry["content"], entry["id"]
        for name in ("single_word", "lstrip", "rstrip"):
            if entry.get(name, False) is not False:
                raise LessonsError(f"{name} of {text[:40]!r} is not known", where=at)
        if text in tokens or id in tokens.values():
            raise LessonsError("the token, or its id, is there twice", where=at)
        tokens[text] = id
    return tokens


def read_vocab(entries: Any, special: dict[str, int], where: str) -> dict[int, bytes]:
    """The bytes of each token by id, special tokens included."""
    if not isinstance(entries, dict) or not all(is_id(id) for id in entries.values()):
        raise LessonsError("not an object with an id for each token", where=where)
    vocab: dict[int, bytes] = {}
    for text, id in [*entries.items(), *special.items()]:
        if special.get(text, id) != id:
            raise LessonsError(f"{text[:40]!r} has two ids", where=where)
        try:
            token = text.encode("utf-8") if text in special else unspell(text, where)
        except UnicodeEncodeError:  # JSON can spell half a character
            raise LessonsError(f"{text[:40]!r} is not text", where=where) from None
        if vocab.setdefault(id, token) != token:
            raise LessonsError(f"the id {id} of {text[:40]!r} is there twice", where=where)
        if len(token) > LONGEST_TOKEN:
            raise LessonsError(f"token {id} has over {LONGEST_TOKEN} bytes", where=where)
    return vocab


def spelled_merges(
    entries: list[Any], vocab: dict[int, bytes], where: str
) -> list[tuple[bytes, bytes]] | None:
    """The merges, spelled "a b" or ["a", "b"]; None if the ids of the tokens say all about them.

    Llama 3's file lists every pair of tokens that joins to a third, in the order of the ids, and so
    means: join two whenever the result is a token, the smallest id first. A list with some of those
    pairs, or in another order, would mean something else, and raises `LessonsError`.
    """
    merges = []
    for rank, entry in enumerate(entries):
        halves = entry.split(" ") if isinstance(entry, str) else entry
        if not isinstance(halves, list) or [type(half) for half in halves] != [str, str]:
            what = f"{str(entry)[:40]!r} is not two tokens and a space"
            raise LessonsError(what, where=f"{where}[{rank}]")
        merges.append((unspell(halves[0], where), unspell(halves[1], where)))
    ids = {token: id for id, token in vocab.items()}
    made = list(dict.fromkeys(left + right for left, right in merges))  # each once, in order
    if unknown := set(made) - ids.keys():
        raise LessonsError(f"{min(unknown)!r} is not in the vocabulary", where=where)
    if len(made) == len(merges):
        return merges
    pairs = {(token[:i], token[i:]) for token in made for i in range(1, len(token))}
    every = {(left, right) for left, right in pairs if left in ids and right in ids}
    if sorted(merges) != sorted(every) or made != sorted(made, key=ids.__getitem__):
        what = "some tokens have several merges, but not every merge that could make them, in order"
        raise LessonsError(what, where=where)
    return None
