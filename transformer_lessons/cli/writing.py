"""A text while a model writes it: its pieces as they come, its tokens, and why it ended."""

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len

from transformer_lessons.cli.display import bar, visible
from transformer_lessons.generation.text_stream import until_stop
from transformer_lessons.tokenizers.byte_tokenizer import decode_stream
from transformer_lessons.tokenizers.tokenizer import Tokenizer


@dataclass
class Writing:
    """Iterate over it for the text of `steps`, tokens with their probabilities, piece by piece.

    The text ends before a token of `ends` and before any of `stop_strings`. `on_token` is told of
    each token that is part of it, before the text is.
    """

    tokenizer: Tokenizer
    steps: Iterable[tuple[int, float]]
    ends: Collection[int] = ()
    stop_strings: Sequence[str] = ()
    before: bytes = b""  # the beginning of a character that the first token goes on with
    on_token: Callable[[int, float], None] | None = None
    tokens: list[int] = field(default_factory=list)  # all that were made, ends included
    text: str = ""
    finish: str | None = None  # "length", "end_of_text" or "stop_string"; None: not at its end

    def __iter__(self) -> Iterator[str]:
        for piece in until_stop(decode_stream(self.pieces()), self.stop_strings):
            self.text += piece
            yield piece
        self.finish = self.finish or "stop_string"

    def pieces(self) -> Iterator[bytes]:
        """The bytes of each token."""
        if self.before:
            yield self.before
        for token, probability in self.steps:
            self.tokens.append(token)
            if token in self.ends:
                self.finish = "end_of_text"
                return
            if self.on_token is not None:
                self.on_token(token, probability)
            yield self.tokenizer.decode_bytes([token])
        self.finish = "length"


def harmless(text: str) -> str:
    """Text without the control characters that a terminal would obey (bytes may say anything).

    >>> harmless("a\\x1b[2J\\n")
    'a·[2J\\n'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else "·" for c in text)


def token_line(tokenizer: Tokenizer, token: int, probability: float, width: int = 80) -> str:
    """A token on a line of its own, with its probability as a bar and in percent.

    >>> from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
    >>> print(token_line(ByteTokenizer(), 97, 0.25))
         'a'    97  █████░░░░░░░░░░░░░░░  25.00%
    """
    name = repr(visible(tokenizer.decode_bytes([token])))
    start, end = f"{' ' * (12 - cell_len(name))}{name} {token:>5}", f"{probability:7.2%}"
    room = width - cell_len(start) - len(end) - 4  # one column stays free: a full line may wrap
    return f"{start}  {bar(probability, min(max(room, 0), 20))} {end}"


def print_token_line(tokenizer: Tokenizer, token: int, probability: float) -> None:
    """Print `token_line`, as wide as the terminal is at this moment."""
    width = shutil.get_terminal_size().columns
    print(token_line(tokenizer, token, probability, width), flush=True)
