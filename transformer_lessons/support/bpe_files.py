"""A BPE tokenizer as a JSON file:

    {"format": "transformer_lessons/bpe-1",
     "pattern": "gpt4",
     "bytes": [0, 1, ..., 255],              the id of each byte, null for one of missing_bytes
     "merges": [[115, 116, 256], ...],       the ids of the left token, the right one and both
     "special_tokens": {"<|end|>": 300},
     "missing_bytes": [4, 6],                only if there are some
     "normal_form": "NFC"}                   only if text is brought into it

The pattern is a name: a regular expression from a file could take for ever.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import read_json, replace_file

FORMAT = "transformer_lessons/bpe-1"
OPTIONAL = {"missing_bytes", "normal_form"}
# Bytes of all tokens; cl100k_base has 0.7 million, and some vocabularies are twice as large. Each
# merge can double a token: without a limit, 30 lines of a hostile file would ask for a gigabyte.
LARGEST = 2**21


def write_bpe(
    path: Path,
    vocab: dict[int, bytes],
    merges: list[tuple[bytes, bytes]],
    special_tokens: dict[str, int],
    pattern: str,
    missing_bytes: Sequence[int] = (),
    normal_form: str | None = None,
) -> None:
    """Write a tokenizer to the JSON file `path`; one that `read_bpe` would refuse raises."""
    if (n_bytes := sum(len(left + right) for left, right in merges)) > LARGEST:
        what = f"the tokens take {n_bytes:,} bytes, more than {LARGEST:,}"
        raise LessonsError(what, where=str(path), remedy="Train it with a smaller vocabulary.")
    special = set(special_tokens.values())
    ids = {token: id for id, token in vocab.items() if id not in special}
    document = {
        "format": FORMAT,
        "pattern": pattern,
        "bytes": [ids.get(bytes([byte])) for byte in range(256)],
        "merges": [[ids[left], ids[right], ids[left + right]] for left, right in merges],
        "special_tokens": special_tokens,
    }
    document |= {"missing_bytes": list(missing_bytes)} if missing_bytes else {}
    document |= {"normal_form": normal_form} if normal_form else {}
    replace_file(path, json.dumps(document, ensure_ascii=False) + "\n")


def read_bpe(path: Path) -> dict[str, Any]:
    """The arguments of `BPETokenizer` for the file `path`; `LessonsError` if it doesn't fit."""
    where, document = str(path), read_json(path)
    names = {"format", "pattern", "bytes", "merges", "special_tokens"}
    if not isinstance(document, dict) or set(document) - OPTIONAL != names:
        raise LessonsError(f"a tokenizer has {', '.join(sorted(names))}", where=where)
    if document["format"] != FORMAT:
        raise LessonsError(f"format {document['format']!r} is not {FORMAT!r}", where=where)
    if not isinstance(document["pattern"], str):
        raise LessonsError("pattern is not a name", where=where)
    ids, special = document["bytes"], document["special_tokens"]
    if (
        not isinstance(ids, list)
        or len(ids) != 256
        or not all(id is None or is_id(id) for id in ids)
    ):
        raise LessonsError("bytes is not a list of 256 ids", where=where)
    if not isinstance(special, dict) or not all(is_id(id) for id in special.values()):
        raise LessonsError("special_tokens does not give each string an id", where=where)
    missing_bytes = [byte for byte, id in enumerate(ids) if id is None]
    if document.get("missing_bytes", []) != missing_bytes:
        raise LessonsError("bytes has null where missing_bytes does not say so", where=where)
    vocab = {id: bytes([byte]) for byte, id in enumerate(ids) if id is not None}
    if len(vocab) != 256 - len(missing_bytes):
        raise LessonsError("two bytes have one id", where=f"{where}, bytes")
    merges = read_merges(vocab, document["merges"], where)
    for text, id in special.items():
        if id in vocab:
            raise LessonsError(f"id {id} is taken", where=f"{where}, special_tokens {text!r}")
        vocab[id] = text.encode("utf-8", errors="surrogatepass")
    return {
        "vocab": vocab,
        "merges": merges,
        "special_tokens": list(special),
        "pattern": document["pattern"],
        "missing_bytes": missing_bytes,
        "normal_form": document.get("normal_form"),
    }


def read_merges(vocab: dict[int, bytes], entries: Any, where: str) -> list[tuple[bytes, bytes]]:
    """The merges of a file, whose new tokens are added to `vocab`."""
    if not isinstance(entries, list):
        raise LessonsError("merges is not a list", where=where)
    merges, n_bytes = [], 0
    for place, entry in enumerate(entries):
        at = f"{where}, merges[{place}]"
        if not isinstance(entry, list) or len(entry) != 3 or not all(is_id(id) for id in entry):
            raise LessonsError(f"{str(entry)[:40]} is not [left, right, id]", where=at)
        left, right, id = entry
        if left not in vocab or right not in vocab or id in vocab:
            what = f"[{left}, {right}, {id}]: both parts must be known, and the new id must not be"
            raise LessonsError(what, where=at)
        merges.append((vocab[left], vocab[right]))
        vocab[id] = vocab[left] + vocab[right]
        n_bytes += len(vocab[id])
        if n_bytes > LARGEST:
            raise LessonsError(f"the tokens take more than {LARGEST:,} bytes", where=at)
    return merges


def is_id(value: Any) -> bool:
    """Whether a JSON value is a token id: an integer from 0, and not so large that it is a slip."""
    return type(value) is int and 0 <= value < 2**31
