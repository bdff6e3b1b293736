"""The text of tokens as they come, and where it ends. Lesson 17."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.byte_tokenizer import decode_stream
from transformer_lessons.tokenizers.tokenizer import Tokenizer


@dataclass
class TextStreamer:
    """Iterate over it once for the text of `tokens`, in pieces, as soon as characters are complete.

    The text ends before a token of `eos`, and before any of the strings `stop`. An id that the
    tokenizer lacks becomes the replacement character U+FFFD.

    >>> from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
    >>> streamer = TextStreamer(ByteTokenizer(), tokens=b"one END two", stop=["END"])
    >>> "".join(streamer), streamer.finish_reason, len(streamer.read_tokens)
    ('one ', 'stop_string', 7)
    """

    tokenizer: Tokenizer
    tokens: Iterable[int]
    eos: Collection[int] = ()
    stop: Sequence[str] = ()
    read_tokens: list[int] = field(default_factory=list)  # so far, also the one that ended it
    text: str = ""  # so far
    finish_reason: str | None = None  # "length" (no more tokens), "end_of_text" or "stop_string"

    def __iter__(self) -> Iterator[str]:
        for piece in until_stop(decode_stream(self._token_bytes()), self.stop):
            self.text += piece
            yield piece
        self.finish_reason = self.finish_reason or "stop_string"

    def _token_bytes(self) -> Iterator[bytes]:
        for token in self.tokens:
            self.read_tokens.append(token)
            if token in self.eos:
                self.finish_reason = "end_of_text"
                return
            try:
                yield self.tokenizer.decode_bytes([token])
            except LessonsError:
                yield "\ufffd".encode()
        self.finish_reason = "length"


def until_stop(pieces: Iterable[str], stop: Sequence[str]) -> Iterator[str]:
    """The text of `pieces`, up to the first of the strings `stop` that is complete, without it.

    How the text is cut into pieces makes no difference. Text that may be the beginning of a stop
    string waits until the next piece tells; no piece is asked for once one is found. If two are
    complete at the same character, the text ends before the longer one. An empty stop string
    raises `LessonsError`.

    >>> list(until_stop(["one ", "E", "N", "E", "ND", " two"], ["END"]))
    ['one ', 'EN']
    """
    if not all(stop):
        raise LessonsError("a stop string is empty", remedy="Give one character or more.")
    held = ""
    for piece in pieces:
        held += piece
        starts = [(held.find(string), string) for string in stop]
        found = [(start + len(string), start) for start, string in starts if start >= 0]
        if found:
            _, start = min(found)  # what is complete first, not what begins first
            if start:
                yield held[:start]
            return
        # What may be the beginning of a stop string: the longest that `held` ends with.
        beginnings = [string[:n] for string in stop for n in range(1, len(string))]
        n_safe = len(held) - max((len(b) for b in beginnings if held.endswith(b)), default=0)
        if n_safe:
            yield held[:n_safe]
        held = held[n_safe:]
    if held:
        yield held
