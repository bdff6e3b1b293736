"""The simplest tokenizer: text is its UTF-8 bytes, and a token id is a byte, 0 to 255."""

import codecs
from collections.abc import Iterable, Iterator

from transformer_lessons.errors import LessonsError


class ByteTokenizer:
    """Token ids are the bytes of the text. Nothing is unknown and nothing is lost.

    >>> tokenizer = ByteTokenizer()
    >>> tokenizer.encode("aé")
    [97, 195, 169]
    >>> tokenizer.decode([97, 195, 169])
    'aé'
    """

    n_vocab = 256

    def encode(self, text: str | bytes) -> list[int]:
        """The bytes of `text`; a string is first written as UTF-8 (RFC 3629).

        Half a surrogate pair, which is how Python hands over a command line that was not UTF-8, is
        no character: it raises `LessonsError`.
        """
        try:
            return list(text.encode("utf-8") if isinstance(text, str) else text)
        except UnicodeEncodeError as error:
            what = f"{text[error.start]!r} is not a character"
            remedy = "Give the text as bytes."
            where = f"position {error.start}"
            raise LessonsError(what, where=where, remedy=remedy) from None

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
