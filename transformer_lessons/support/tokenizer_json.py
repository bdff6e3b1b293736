"""A BPE tokenizer as Hugging Face's `tokenizer.json`, which the library `tokenizers` opens.

    {"added_tokens": [{"id": 0, "content": "<|endoftext|>", "special": true, ...}, ...],
     "normalizer": null,
     "pre_tokenizer": how text is cut into pre-tokens,
     "model": {"type": "BPE", "vocab": {"Ġthe": 266, ...}, "merges": ["Ġ t", ...]}}

Tokens are spelled with GPT-2's characters, one for each byte. How a file cuts text is recognized
among a few known ways: a regular expression from a file could take for ever, so none is ever run.
"""

from pathlib import Path
from typing import Any

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.bpe_files import BPEParts, lacking_bytes
from transformer_lessons.support.files import field, read_json, write_json

# The patterns of `pretokenizer.PATTERNS` in the dialect of `tokenizers`, where possessive
# quantifiers and $ mean something else. They match the same: a test compares. Those of llama3 and
# qwen2 are written as in the published files.
HUGGINGFACE_PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]+|\s+(?!\S)|\s+",
    "smollm2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|"
    r"\s+(?=\p{N})|\s+(?!\S)|\s+",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
PATTERN_NAMES = {text: name for name, text in HUGGINGFACE_PATTERNS.items()}
PLAIN = {"type": "BPE", "dropout": None, "byte_fallback": False}  # what a model may say of itself
PLAIN |= {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
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
    write_json(path, document)


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
    document = read_json(path, LARGEST)
    model = field(document, "model", dict, "")
    for name, plain in PLAIN.items():
        if model.get(name) not in (None, plain):
            raise LessonsError(f"{name} = {repr(model[name])[:40]} is not known", where="model")
    if (normalizer := document.get("normalizer")) not in (None, {"type": "NFC"}):
        raise LessonsError("a normalizer other than NFC is not known", where="normalizer")
    if field(field(document, "decoder", dict, ""), "type", str, "decoder") != "ByteLevel":
        raise LessonsError("it is not ByteLevel", where="decoder")
    pattern = pattern_of(document.get("pre_tokenizer"), "pre_tokenizer")
    special = _read_added_tokens(field(document, "added_tokens", list[dict], ""))
    vocab = _read_vocab(field(model, "vocab", dict[str, int], "model"), special)
    merges = spelled_merges(field(model, "merges", list, "model"), vocab, "merges")
    normal_form = normalizer and normalizer["type"]
    return BPEParts(vocab, merges, list(special), pattern, lacking_bytes(vocab), normal_form)


def pattern_of(pre_tokenizer: Any, where: str) -> str:
    """The name in `pretokenizer.PATTERNS` of the way a file cuts text into pre-tokens.

    Known are ByteLevel alone (GPT-2), Digits before it (SmolLM2), or a known Split.
    """
    match pre_tokenizer:
        case {"type": "Sequence", "pretokenizers": [*steps]}:
            pass
        case step:
            steps = [step]
    match steps:
        case [*first, {"type": "ByteLevel", "add_prefix_space": False, **rest}]:
            splits = rest.get("use_regex", True)
            if splits is True and first in ([], [DIGITS]):
                return "smollm2" if first else "gpt2"
            match first:
                case [{"type": "Split", "pattern": {"Regex": str(text)}, **how}]:
                    is_plain = (how.get("behavior"), how.get("invert")) == ("Isolated", False)
                    if splits is False and is_plain and text in PATTERN_NAMES:
                        return PATTERN_NAMES[text]
    remedy = "Known are those of GPT-2, GPT-4, Llama 3, Qwen2 and SmolLM2."
    raise LessonsError("an unknown way of cutting text", where=where, remedy=remedy)


def _read_added_tokens(entries: list[dict]) -> dict[str, int]:
    """The ids of the added tokens, by their text."""
    tokens: dict[str, int] = {}
    for place, entry in enumerate(entries):
        at = f"added_tokens[{place}]"
        text, id = field(entry, "content", str, at), field(entry, "id", int, at)
        for name in ("single_word", "lstrip", "rstrip"):
            if entry.get(name, False) is not False:
                raise LessonsError(f"{name} of {text[:40]!r} is not known", where=at)
        if text in tokens or id in tokens.values():
            raise LessonsError("the token, or its id, is there twice", where=at)
        tokens[text] = id
    return tokens


def _read_vocab(entries: dict[str, int], special: dict[str, int]) -> dict[int, bytes]:
    """The bytes of each token by id, special tokens included."""
    vocab: dict[int, bytes] = {}
    for text, id in (entries | special).items():
        if entries.get(text, id) != id:
            raise LessonsError(f"{text[:40]!r} has two ids", where="vocab")
        # JSON can spell half a character; the constructor refuses what is left of it.
        token = text.encode("utf-8", "ignore") if text in special else unspell(text, "vocab")
        if vocab.setdefault(id, token) != token:
            raise LessonsError(f"the id {id} of {text[:40]!r} is there twice", where="vocab")
        if len(token) > LONGEST_TOKEN:
            raise LessonsError(f"token {id} has over {LONGEST_TOKEN} bytes", where="vocab")
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
