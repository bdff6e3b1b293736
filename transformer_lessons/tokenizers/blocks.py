"""Cutting a long text into blocks that can be split into chunks one by one, in any process."""

from collections.abc import Iterable, Iterator, Sequence

import regex

from transformer_lessons.tokenizers.pretokenizer import special_pattern

BLOCK = 1 << 20  # characters: what a worker process is given at a time


def safe_blocks(
    pieces: Iterable[str], special_tokens: Sequence[str] = (), size: int = BLOCK
) -> Iterator[str]:
    """The joined `pieces` in blocks of about `size` characters, cut where no chunk is.

    Two places are such: behind the last letter of a word, and between a word or sign and a space.
    Every pattern ends a chunk there. A text without any such place is one block.

    >>> list(safe_blocks(["one two", " three"]))
    ['one two three']
    """
    special = special_pattern(special_tokens)
    longest = max(map(len, special_tokens), default=0)
    held, wanted = "", size
    slices = (piece[i : i + size] for piece in pieces for i in range(0, len(piece), size))
    for piece in slices:
        held += piece
        if len(held) < wanted:
            continue
        cut = last_safe_cut(held, special, longest)
        if cut == 0:
            wanted = 2 * len(held)
        else:
            yield held[:cut]
            held, wanted = held[cut:], size
    if held:
        yield held


def last_safe_cut(text: str, special: regex.Pattern | None, longest: int) -> int:
    """The last place of `text` where every pattern ends a chunk; 0 when none is found.

    Not so near the end that a special token may go on behind it, and not where one, wherever it
    may begin, would be cut.
    """
    ends = r"(?<=\p{L})(?=\P{L})|(?<=\S)(?=[^\S\r\n])"
    for match in regex.finditer(ends, text, flags=regex.REVERSE):
        cut = match.start()
        if cut + longest > len(text):
            continue
        starts = range(max(cut - longest + 1, 0), cut) if special else ()
        found = (special.match(text, start) for start in starts)
        if not any(token and token.end() > cut for token in found):
            return cut
    return 0
