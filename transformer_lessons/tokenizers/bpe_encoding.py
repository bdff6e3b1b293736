"""Applying merges: a pre-token's bytes, joined pair by pair, the earliest learned first. Lesson 3.

As in tiktoken, two neighbours may be joined when both together are a token; its rank is the number
of the merge that made it.
"""

import heapq
from collections.abc import Mapping

from transformer_lessons.errors import LessonsError


def apply_merges(pretoken: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """The tokens of one pre-token: join the pair of the lowest rank, leftmost first, until none is.

    In n log n steps for n bytes: all pairs wait in a heap by (rank, place). A pair that no longer
    exists is dropped when it comes up.

    >>> apply_merges(b"lowest", {b"st": 0, b"est": 1, b"ow": 2, b"low": 3})
    [b'low', b'est']
    """
    end = len(pretoken)
    after = list(range(1, end + 1))  # a part begins at i and ends where the next begins, after[i]
    before = list(range(-1, end - 1))
    pairs = ((ranks.get(pretoken[i : i + 2]), i, i + 2) for i in range(end - 1))
    heap = [pair for pair in pairs if pair[0] is not None]
    heapq.heapify(heap)
    while heap:
        _, left, stop = heapq.heappop(heap)
        middle = after[left] if left < end else end
        if middle <= left or middle >= end or after[middle] != stop:
            continue  # one of its two parts has been joined to something else
        after[left] = stop
        after[middle] = -1  # no part begins here any more
        if stop < end:
            before[stop] = left
        for first in (before[left], left):
            second = after[first] if first >= 0 else end
            if second < end and (rank := ranks.get(pretoken[first : after[second]])) is not None:
                heapq.heappush(heap, (rank, first, after[second]))
    return [pretoken[start : after[start]] for start in range(end) if after[start] > 0]


def merges_of_ranks(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The merges behind `ranks`: a token's two halves are what the merges before it leave of it.

    >>> merges_of_ranks({b"a": 0, b"b": 1, b"ab": 2, b"abab": 3})
    [(b'a', b'b'), (b'ab', b'ab')]
    """
    merges: list[tuple[bytes, bytes]] = []
    earlier: dict[bytes, int] = {}
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            halves = apply_merges(token, earlier)
            if len(halves) != 2:
                what = f"{token!r} is not made of two tokens of lower rank, but of {len(halves)}"
                raise LessonsError(what, where=f"rank {rank}")
            merges.append((halves[0], halves[1]))
            earlier[token] = rank
    return merges
