"""Applying merges: a chunk's bytes, joined pair by pair, the earliest learned merge first.

`ranks` says which merge made a token: rank 0 was learned first. A pair of neighbours may be joined
when the bytes of both together are a token. (So tiktoken defines it. A list of merges names the two
halves as well; for merges that were learned together both give the same tokens.)
"""

import heapq
from collections.abc import Mapping

LONG = 128  # bytes: from here on, searching all pairs for the best one takes longer than a heap


def merge_chunk(chunk: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """The tokens of one chunk: join the pair of the lowest rank, leftmost first, until none is.

    >>> merge_chunk(b"lowest", {b"st": 0, b"est": 1, b"ow": 2, b"low": 3})
    [b'low', b'est']
    """
    if len(chunk) >= LONG:
        return merge_long_chunk(chunk, ranks)
    parts = [chunk[i : i + 1] for i in range(len(chunk))]
    while len(parts) > 1:
        best, where = None, 0
        for i in range(len(parts) - 1):
            rank = ranks.get(parts[i] + parts[i + 1])
            if rank is not None and (best is None or rank < best):
                best, where = rank, i
        if best is None:
            break
        parts[where : where + 2] = [parts[where] + parts[where + 1]]
    return parts


def merge_long_chunk(chunk: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """The same tokens as `merge_chunk`, in n log n steps for n bytes.

    All pairs wait in a heap by (rank, place). Parts are linked to their neighbours, so that joining
    two takes a fixed number of steps; a pair that no longer exists is dropped when it comes up.

    >>> merge_long_chunk(b"lowest", {b"st": 0, b"est": 1, b"ow": 2, b"low": 3})
    [b'low', b'est']
    """
    end = len(chunk)
    after = list(range(1, end + 1))  # a part begins at i and ends where the next begins, after[i]
    before = list(range(-1, end - 1))
    heap = [
        (rank, i, i + 2)
        for i in range(end - 1)
        if (rank := ranks.get(chunk[i : i + 2])) is not None
    ]
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
            if second < end and (rank := ranks.get(chunk[first : after[second]])) is not None:
                heapq.heappush(heap, (rank, first, after[second]))
    parts, start = [], 0
    while start < end:
        parts.append(chunk[start : after[start]])
        start = after[start]
    return parts
