"""Counting how often each chunk occurs in a text, in one process or several."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, starmap
from multiprocessing import get_context

from transformer_lessons.tokenizers.blocks import safe_blocks
from transformer_lessons.tokenizers.byte_tokenizer import utf8_bytes
from transformer_lessons.tokenizers.pretokenizer import special_pattern
from transformer_lessons.tokenizers.quick_split import find_chunks

Task = tuple[str, str, Sequence[str]]


def count_chunks(
    pieces: Iterable[str],
    pattern: str = "gpt4",
    special_tokens: Sequence[str] = (),
    n_workers: int = 1,
) -> dict[bytes, int]:
    """How often each chunk of the joined `pieces` occurs; special tokens are boundaries only.

    The same for any way of cutting the text into pieces, and for any number of workers. A few
    blocks of the text are in memory at a time.

    >>> count_chunks(["lo", "w low"])
    {b'low': 1, b' low': 1}
    """
    blocks = safe_blocks(pieces, special_tokens)
    tasks = ((block, pattern, special_tokens) for block in blocks)
    several = n_workers > 1
    counted = count_in_parallel(tasks, n_workers) if several else starmap(count_block, tasks)
    total: Counter[bytes] = Counter()
    for counts in counted:
        total.update(counts)
    return dict(total)


def count_block(text: str, pattern: str, special_tokens: Sequence[str]) -> dict[bytes, int]:
    """How often each chunk of `text` occurs, a block that no chunk goes beyond.

    >>> count_block("low<|end|>low", "gpt4", ["<|end|>"])
    {b'low': 2}
    """
    special = special_pattern(special_tokens)
    counts: Counter[str] = Counter()
    for part in special.split(text) if special else [text]:
        counts.update(find_chunks(part, pattern))
    return {utf8_bytes(chunk): n for chunk, n in counts.items()}


def count_in_parallel(tasks: Iterator[Task], n_workers: int) -> Iterator[dict[bytes, int]]:
    """`count_block` of each task, by `n_workers` processes."""
    with get_context().Pool(n_workers) as pool:
        while some := list(islice(tasks, 4 * n_workers)):
            yield from pool.starmap(count_block, some, chunksize=1)
