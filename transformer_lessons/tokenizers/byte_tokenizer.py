"""The simplest tokenizer: text is its UTF-8 bytes, and a token id is a byte, 0 to 255. Lesson 2."""

import codecs
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.bpe_files import join_tokens
from transformer_lessons.support.files import read_json, write_json

FORMAT = "transformer_lessons/bytes-1"


def utf8_bytes(text: str) -> bytes:
    """`text` written as UTF-8 (RFC 3629); half a surrogate pair, no character, raises.

    >>> utf8_bytes("é")
    b'\\xc3\\xa9'
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        what = f"{text[error.start]!r} is not a character"
        where, remedy = f"position {error.start}", "Give the text as bytes."
        raise LessonsError(what, where=where, remedy=remedy) from None


class ByteTokenizer:
    """Token ids are the bytes of the text. Nothing is unknown and nothing is lost.

    >>> tokenizer = ByteTokenizer()
    >>> tokenizer.encode("aé")
    [97, 195, 169]
    >>> tokenizer.decode([97, 195, 169])
    'aé'
    """

    n_vocab = 256
    eos_ids: tuple[int, ...] = ()  # no byte ends a text
    special_tokens: Mapping[str, int] = {}  # none: every id is a byte

    def encode(self, text: str | bytes) -> list[int]:
        """The bytes of `text`; a string is first written as UTF-8 (see `utf8_bytes`)."""
        return list(utf8_bytes(text) if isinstance(text, str) else text)

    encode_ordinary = encode  # there are no special tokens that could be meant

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The inverse of `encode`, exact for any bytes; an id outside 0-255 raises."""
        return join_tokens(ids, {byte: bytes([byte]) for byte in range(256)}.__getitem__)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become the replacement character U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def save(self, path: Path | str) -> None:
        """Write a JSON file that says only what kind of tokenizer this is."""
        write_json(Path(path), {"format": FORMAT})

    @classmethod
    def load(cls, path: Path | str) -> "ByteTokenizer":
        """The tokenizer that `save` wrote; another file raises `LessonsError`."""
        if read_json(path) != {"format": FORMAT}:
            raise LessonsError(f'not {{"format": "{FORMAT}"}}', where=str(path))
        return cls()


def decode_stream(pieces: Iterable[bytes]) -> Iterator[str]:
    """Text from bytes that arrive piece by piece, holding back characters that are not complete.

    >>> list(decode_stream([b"a", bytes([195]), bytes([169]), b"b"]))
    ['a', 'é', 'b']
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for piece in pieces:
        if text := decoder.decode(piece):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
