"""The simplest tokenizer: text is its UTF-8 bytes, and a token id is a byte, 0 to 255. Lesson 2."""

import codecs
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import read_json, replace_file

FORMAT = "transformer_lessons/bytes-1"


def utf8_bytes(text: str) -> bytes:
    """`text` written as UTF-8 (RFC 3629).

    Half a surrogate pair, which is how Python hands over a command line that was not UTF-8, is no
    character: it raises `LessonsError`.

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

    n_vocab, eos_ids = 256, ()

    @property
    def special_tokens(self) -> dict[str, int]:
        """None: every id is a byte."""
        return {}

    def encode(self, text: str | bytes) -> list[int]:
        """The bytes of `text`; a string is first written as UTF-8 (see `utf8_bytes`)."""
        return list(utf8_bytes(text) if isinstance(text, str) else text)

    def encode_ordinary(self, text: str | bytes) -> list[int]:
        """The same as `encode`: there are no special tokens that could be meant."""
        return self.encode(text)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The inverse of `encode`, exact for any bytes; an id outside 0-255 raises."""
        ids = list(ids)
        for place, token in enumerate(ids):
            if not 0 <= token <= 255:
                where = f"position {place}"
                raise LessonsError(f"token {token} is not a byte (0 to 255)", where=where)
        return bytes(ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become the replacement character U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def save(self, path: Path | str) -> None:
        """Write a JSON file that says only what kind of tokenizer this is."""
        replace_file(Path(path), json.dumps({"format": FORMAT}) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> "ByteTokenizer":
        """The tokenizer that `save` wrote; another file raises `LessonsError`."""
        if read_json(path) != {"format": FORMAT}:
            raise LessonsError(f'not {{"format": "{FORMAT}"}}', where=str(path))
        return cls()


def decode_stream(pieces: Iterable[bytes]) -> Iterator[str]:
    """Text from bytes that arrive piece by piece, holding back characters that are not complete.

    The joined result is the same as decoding all the bytes at once, with U+FFFD for invalid ones.

    >>> list(decode_stream([b"a", bytes([195]), bytes([169]), b"b"]))
    ['a', 'é', 'b']
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for piece in pieces:
        if text := decoder.decode(piece):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
