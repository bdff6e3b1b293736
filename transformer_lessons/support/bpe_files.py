"""What a BPE tokenizer is made of, and the JSON file that the book keeps it in:

    {"format": "transformer_lessons/bpe-1",
     "pattern": "gpt4",
     "bytes": [0, 1, ..., 255],              the id of each byte, null for a missing one
     "merges": [[115, 116, 256], ...],       the ids of the left token, the right one and both
     "special_tokens": {"<|end|>": 300},
     "normal_form": "NFC",                   only if text is brought into it
     "eos_ids": [300]}                       only if the model's files named some

The pattern is a name: a regular expression from a file could take for ever.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import field, read_json, write_json

FORMAT = "transformer_lessons/bpe-1"
NAMES = {"format", "pattern", "bytes", "merges", "special_tokens", "normal_form", "eos_ids"}
LARGEST_ID = 2**31
LARGEST = 2**21  # bytes of all tokens; each merge can double one, and hostile files would do so


class BPEParts(NamedTuple):
    """The arguments of `BPETokenizer`: what its files are written from and read into."""

    vocab: dict[int, bytes]  # special tokens included
    merges: list[tuple[bytes, bytes]] | None  # None: ids are in the order of merges
    special_tokens: list[str]
    pattern: str = "gpt4"
    missing_bytes: Sequence[int] = ()
    normal_form: str | None = None
    eos_ids: Sequence[int] = ()  # with which a text ends, as the model's files say

    @property
    def ids(self) -> dict[bytes, int]:
        """The id of each token."""
        return {token: id for id, token in self.vocab.items()}

    @property
    def special_ids(self) -> dict[str, int]:
        """The id of each special token."""
        ids = self.ids
        return {text: ids[text.encode("utf-8")] for text in self.special_tokens}


@contextmanager
def errors_in(where: Path | str) -> Iterator[None]:
    """Name the file `where` in an error that names only a place in it."""
    try:
        yield
    except LessonsError as error:
        place = error.where if str(where) in error.where else f"{where}, {error.where}"
        place = place.removesuffix(", ")
        raise LessonsError(error.what, where=place, remedy=error.remedy) from None


def add_special_tokens(vocab: dict[int, bytes], texts: Iterable[str]) -> dict[str, int]:
    """The id of each special token; those that `vocab` lacks are added to it, with the next ids."""
    if not all(type(id) is int and 0 <= id < LARGEST_ID for id in vocab):
        raise LessonsError("an id is not 0, 1, 2, …", where="vocab")
    ids = {token: id for id, token in vocab.items()}
    special: dict[str, int] = {}
    for text in texts:
        token = text.encode("utf-8", errors="ignore") if isinstance(text, str) else b""
        if len(token) < 2 or text in special or token.decode() != text:
            what = f"{text!r} is not a string of two bytes or more, or it is there twice"
            raise LessonsError(what, where="special_tokens")
        special[text] = ids.setdefault(token, max(vocab, default=-1) + 1)
        vocab[special[text]] = token
    return special


def check_parts(parts: BPEParts) -> None:
    """Raise `LessonsError` unless each token of `vocab` has exactly one reason to be there.

    The reasons are to be a byte, all but `missing_bytes`; to be made by a merge; to be special.
    """
    if parts.normal_form not in (None, "NFC"):
        raise LessonsError(f"{str(parts.normal_form)[:40]!r} is not NFC", where="normal_form")
    for rank, pair in enumerate(parts.merges or ()):
        if len(pair) != 2 or not all(isinstance(part, bytes) and part for part in pair):
            raise LessonsError(f"{pair!r} is not two tokens", where=f"merges[{rank}]")
    reasons = Counter(bytes([byte]) for byte in range(256) if byte not in parts.missing_bytes)
    reasons.update(left + right for left, right in parts.merges or ())
    reasons.update(text.encode("utf-8") for text in parts.special_tokens)
    tokens = Counter(parts.vocab.values())
    if odd := [token for token in reasons | tokens if not reasons[token] == tokens[token] == 1]:
        what = f"{min(odd)!r} must be one token, as a byte, made by one merge, or special"
        raise LessonsError(what, where="vocab", remedy="A vocabulary holds all 256 bytes.")
    if not tokens:
        raise LessonsError("it is empty", where="vocab")


def join_tokens(ids: Iterable[int], token_of: Callable[[int], bytes]) -> bytes:
    """The tokens of `ids`, one after another; an id without a token raises `LessonsError`."""
    tokens = []
    for place, id in enumerate(ids):
        try:
            tokens.append(token_of(id))
        except (KeyError, OverflowError):
            what, where = f"token {id} is not in the vocabulary", f"position {place}"
            raise LessonsError(what, where=where, remedy="Is it another tokenizer's?") from None
    return b"".join(tokens)


def lacking_bytes(vocab: dict[int, bytes]) -> list[int]:
    """The bytes that are not among the tokens of `vocab`."""
    tokens = set(vocab.values())
    return [byte for byte in range(256) if bytes([byte]) not in tokens]


def write_bpe(path: Path, parts: BPEParts) -> None:
    """Write a tokenizer to the JSON file `path`; one that `read_bpe` would refuse raises."""
    merges, ids = parts.merges or [], parts.ids
    if (n_bytes := sum(len(left + right) for left, right in merges)) > LARGEST:
        what = f"the tokens take {n_bytes:,} bytes, more than {LARGEST:,}"
        raise LessonsError(what, where=str(path), remedy="Train it with a smaller vocabulary.")
    document = {
        "format": FORMAT,
        "pattern": parts.pattern,
        "bytes": [ids.get(bytes([byte])) for byte in range(256)],
        "merges": [[ids[left], ids[right], ids[left + right]] for left, right in merges],
        "special_tokens": parts.special_ids,
    }
    document |= {"normal_form": parts.normal_form} if parts.normal_form else {}
    write_json(path, document | ({"eos_ids": list(parts.eos_ids)} if parts.eos_ids else {}))


def read_bpe(path: Path) -> BPEParts:
    """The tokenizer in the file `path`, whose parts may yet be refused by `check_parts`."""
    where, document = str(path), read_json(path)
    if (found := field(document, "format", str, where)) != FORMAT:
        raise LessonsError(f"format {found!r} is not {FORMAT!r}", where=where)
    if unknown := sorted(document.keys() - NAMES):
        raise LessonsError(f"unknown key {unknown[0]!r}", where=where)
    ids = field(document, "bytes", list[int | None], where)
    if len(ids) != 256:
        raise LessonsError(f"bytes has {len(ids)} ids, not 256", where=where)
    missing_bytes = [byte for byte, id in enumerate(ids) if id is None]
    vocab = {id: bytes([byte]) for byte, id in enumerate(ids) if id is not None}
    merges = _read_merges(vocab, field(document, "merges", list[list[int]], where), where)
    special = field(document, "special_tokens", dict[str, int], where)
    if len(set(special.values()) - vocab.keys()) != len(special):
        raise LessonsError("an id is taken", where=f"{where}, special_tokens")
    vocab |= {id: text.encode("utf-8", errors="ignore") for text, id in special.items()}
    pattern = field(document, "pattern", str, where)
    normal_form = field(document, "normal_form", str | None, where)
    eos_ids = field(document, "eos_ids", list[int] | None, where) or ()
    return BPEParts(vocab, merges, list(special), pattern, missing_bytes, normal_form, eos_ids)


def _read_merges(
    vocab: dict[int, bytes], entries: list[list[int]], where: str
) -> list[tuple[bytes, bytes]]:
    """The merges of a file, whose new tokens are added to `vocab`."""
    merges, n_bytes = [], 0
    for place, entry in enumerate(entries):
        at = f"{where}, merges[{place}]"
        if len(entry) != 3 or not {*entry[:2]} <= vocab.keys():
            raise LessonsError(f"{entry} is not [left, right, id] with known parts", where=at)
        left, right, id = entry
        merges.append((vocab[left], vocab[right]))
        vocab[id] = vocab[left] + vocab[right]
        n_bytes += len(vocab[id])
        if n_bytes > LARGEST:
            raise LessonsError(f"the tokens take more than {LARGEST:,} bytes", where=at)
    return merges
