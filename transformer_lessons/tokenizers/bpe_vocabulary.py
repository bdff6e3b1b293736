"""What makes a vocabulary whole: bytes, merges that can happen, special tokens apart."""

from collections.abc import Collection, Iterable, Sequence

from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.bpe_encoding import merge_chunk
from transformer_lessons.tokenizers.byte_tokenizer import utf8_bytes


def add_special_tokens(vocab: dict[int, bytes], texts: Iterable[str]) -> dict[str, int]:
    """The id of each special token; those that `vocab` lacks are added to it, with the next ids."""
    if not all(type(id) is int and id >= 0 for id in vocab):
        raise LessonsError("an id is not 0, 1, 2, …", where="vocab")
    ids = {token: id for id, token in vocab.items()}
    special: dict[str, int] = {}
    for text in texts:
        if not isinstance(text, str) or text in special or len(utf8_bytes(text)) < 2:
            what = f"{text!r} is not a string of two bytes or more, or it is there twice"
            raise LessonsError(what, where="special_tokens")
        token = utf8_bytes(text)
        special[text] = ids.setdefault(token, max(vocab, default=-1) + 1)
        vocab[special[text]] = token
    return special


def check_vocabulary(
    vocab: dict[int, bytes],
    merges: Sequence[tuple[bytes, bytes]],
    special: dict[str, int],
    missing_bytes: Collection[int] = (),
) -> None:
    """Raise `LessonsError` unless every text can be written with `vocab`, and nothing is idle.

    Every text but those that need one of `missing_bytes`, which `vocab` must not have.
    """
    tokens = set(vocab.values())
    if missing := {bytes([byte]) for byte in range(256) if byte not in missing_bytes} - tokens:
        what = f"the byte {min(missing)[0]} is not in the vocabulary"
        raise LessonsError(what, where="vocab", remedy="A vocabulary holds all 256 bytes.")
    if not tokens or any(bytes([byte]) in tokens for byte in missing_bytes):
        raise LessonsError("some are in the vocabulary, or it is empty", where="missing_bytes")
    if len(tokens) < len(vocab):
        raise LessonsError("two ids have the same token", where="vocab")
    made = check_merges(merges)
    special_bytes = {utf8_bytes(text) for text in special}
    for token in tokens | made.keys():
        n_reasons = (token in made or len(token) == 1) + (token in special_bytes)
        if token not in tokens or n_reasons != 1:
            what = f"{token!r} must be in the vocabulary, and made by a merge or special, not both"
            raise LessonsError(what, where="vocab")


def check_merges(merges: Sequence[tuple[bytes, bytes]]) -> dict[bytes, int]:
    """The rank of each token that `merges` make; `LessonsError` for a merge that can't happen.

    A merge can happen when its two parts are what is left of their joined bytes after all earlier
    merges. So it is for merges that were learned, and tiktoken and `tokenizers` rely on it.
    """
    made: dict[bytes, int] = {}
    for rank, pair in enumerate(merges):
        if len(pair) != 2 or not all(isinstance(part, bytes) and part for part in pair):
            raise LessonsError(f"{pair!r} is not two tokens", where=f"merges[{rank}]")
        left, right = pair
        if left + right in made or merge_chunk(left + right, made) != [left, right]:
            what = f"{left!r} and {right!r} never meet after the merges before"
            raise LessonsError(what, where=f"merges[{rank}]")
        made[left + right] = rank
    return made
