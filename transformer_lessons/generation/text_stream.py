"""Text that ends where one of some strings comes, wherever the tokens were cut."""

from collections.abc import Iterable, Iterator, Sequence

from transformer_lessons.errors import LessonsError


def until_stop(pieces: Iterable[str], stop_strings: Sequence[str]) -> Iterator[str]:
    """The text of `pieces`, up to the first of `stop_strings` that is complete, and without it.

    How the text is cut into pieces makes no difference. Text that may be the beginning of a stop
    string waits until the next piece tells; no piece is asked for once one is found. If two are
    complete at the same character, the text ends before the longer one. An empty stop string
    raises `LessonsError`.

    >>> list(until_stop(["one ", "E", "N", "E", "ND", " two"], ["END"]))
    ['one ', 'EN']
    """
    if not all(stop_strings):
        raise LessonsError("a stop string is empty", remedy="Give one character or more.")
    held = ""
    for piece in pieces:
        held += piece
        if found := first_complete(held, stop_strings):
            if held[: found[1]]:
                yield held[: found[1]]
            return
        n_safe = len(held) - length_of_beginning(held, stop_strings)
        if n_safe:
            yield held[:n_safe]
        held = held[n_safe:]
    if held:
        yield held


def first_complete(text: str, strings: Sequence[str]) -> tuple[int, int] | None:
    """(end, start) of the one of `strings` that is complete first in `text`, None without any.

    >>> first_complete("abcd", ["abcd", "bc"])
    (3, 1)
    """
    starts = [(text.find(string), string) for string in strings]
    return min(
        ((start + len(string), start) for start, string in starts if start >= 0), default=None
    )


def length_of_beginning(text: str, strings: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of one of `strings`.

    >>> length_of_beginning("xENEN", ["END"])
    2
    """
    longest = max(map(len, strings), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(string.startswith(text[-length:]) for string in strings):
            return length
    return 0
