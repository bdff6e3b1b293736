"""Counting how often each chunk occurs in a text, in one process or several."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from multiprocessing import get_context

import regex

from transformer_lessons.text.byte_tokenizer import utf8_bytes
from transformer_lessons.text.splitting import special_pattern, stream_chunks

BLOCK = 1 << 20  # characters: what a worker process is given at a time


def count_chunks(
    pieces: Iterable[str],
    pattern: str = "gpt4",
    special_tokens: Sequence[str] = (),
    n_workers: int = 1,
) -> dict[bytes, int]:
    """How often each chunk of the joined `pieces` occurs; special tokens are boundaries only.

    The same for any way of cutting the text into pieces, and for any number of workers.

    >>> count_chunks(["lo", "w low"])
    {b'low': 1, b' low': 1}
    """
    if n_workers > 1:
        return count_in_parallel(pieces, pattern, special_tokens, n_workers)
    chunks = stream_chunks(pieces, pattern, special_tokens)
    counts = Counter(chunk for chunk, is_special in chunks if not is_special)
    return {utf8_bytes(chunk): n for chunk, n in counts.items()}


def count_in_parallel(
    pieces: Iterable[str], pattern: str, special_tokens: Sequence[str], n_workers: int
) -> dict[bytes, int]:
    """`count_chunks` with `n_workers` processes; a few blocks of text are in memory at a time."""
    blocks = safe_blocks(pieces, special_tokens)
    total: Counter[bytes] = Counter()
    with get_context().Pool(n_workers) as pool:
        while some := list(islice(blocks, 4 * n_workers)):
            tasks = [([block], pattern, special_tokens) for block in some]
            for counts in pool.starmap(count_chunks, tasks, chunksize=1):
                total.update(counts)
    return dict(total)


def safe_blocks(pieces: Iterable[str], special_tokens: Sequence[str] = ()) -> Iterator[str]:
    """The joined `pieces` in blocks of about a million characters, cut where no chunk is.

    The place behind the last letter of a word is one: every pattern ends a chunk there.

    >>> list(safe_blocks(["one two", " three"]))
    ['one two three']
    """
    special = special_pattern(special_tokens)
    longest = max(map(len, special_tokens), default=0)
    held, wanted = "", BLOCK
    slices = (piece[i : i + BLOCK] for piece in pieces for i in range(0, len(piece), BLOCK))
    for piece in slices:
        held += piece
        if len(held) < wanted:
            continue
        cut = last_safe_cut(held, special, longest)
        if cut == 0:
            wanted = 2 * len(held)
        else:
            yield held[:cut]
            held, wanted = held[cut:], BLOCK
    if held:
        yield held


def last_safe_cut(text: str, special: regex.Pattern | None, longest: int) -> int:
    """The last place of `text` between a letter and what is no letter; 0 when there is none.

    Not so near the end that a special token may go on behind it, and not where one, wherever it
    may begin, would be cut.
    """
    for match in regex.finditer(r"(?<=\p{L})(?=\P{L})", text, flags=regex.REVERSE):
        cut = match.start()
        if cut + longest > len(text):
            continue
        starts = range(max(cut - longest + 1, 0), cut) if special else ()
        found = (special.match(text, start) for start in starts)
        if not any(token and token.end() > cut for token in found):
            return cut
    return 0
