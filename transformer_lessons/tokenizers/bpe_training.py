"""Learning merges for byte-pair encoding: join the most frequent pair, again and again. Lesson 3.

Of equally frequent pairs the lexicographically greater is taken, by the left tokens' bytes first.
Gage 1994, "A New Algorithm for Data Compression"; Sennrich et al. 2016, arXiv:1508.07909.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice, pairwise
from multiprocessing import Pool

from transformer_lessons.tokenizers.byte_tokenizer import utf8_bytes
from transformer_lessons.tokenizers.pretokenizer import pretokenize, safe_blocks, special_pattern

Pair = tuple[bytes, bytes]
IdPair = tuple[int, int]
EDGE = -1  # what stands between pre-tokens
INSIDE = -2  # where a token began that is now the second half of another


def count_pretokens(
    pieces: Iterable[str],
    pattern: str = "gpt4",
    special_tokens: Sequence[str] = (),
    n_workers: int = 1,
) -> dict[bytes, int]:
    """How often each pre-token of the joined `pieces` occurs; special tokens are boundaries only.

    >>> count_pretokens(["lo", "w low<|end|>low"], special_tokens=["<|end|>"])
    {b'low': 2, b' low': 1}
    """
    blocks = safe_blocks(pieces, special_tokens)
    count = partial(count_block, pattern=pattern, special_tokens=special_tokens)
    total: Counter[bytes] = Counter()
    with Pool(n_workers) if n_workers > 1 else nullcontext() as pool:
        while some := list(islice(blocks, 4 * n_workers if pool else 1)):
            for counts in pool.map(count, some, chunksize=1) if pool else map(count, some):
                total.update(counts)
    return dict(total)


def count_block(text: str, pattern: str, special_tokens: Sequence[str]) -> dict[bytes, int]:
    """How often each pre-token of `text` occurs, a block that no pre-token goes beyond."""
    counts: Counter[str] = Counter()
    for part in special_pattern(special_tokens).split(text):
        counts.update(pretokenize(part, pattern))
    return {utf8_bytes(pretoken): n for pretoken, n in counts.items()}


def learn_merges(
    pretokens: Mapping[bytes, int],
    n_merges: int,
    report: Callable[[int], None] = lambda n_done: None,
) -> list[Pair]:
    """The first `n_merges` merges, fewer when no pair is left; `pretokens` counts each pre-token.

    A merge changes only the pairs beside the places where it joins, so all merges together take a
    number of steps in proportion to the text. A heap brings up the most frequent pair. A pair can
    only become less frequent once its newer token is made, so its entry in the heap is never too
    small, and is put right when it comes up. `report` gets the number of merges so far.

    >>> learn_merges({b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}, n_merges=3)
    [(b's', b't'), (b'e', b'st'), (b'o', b'w')]
    """
    tokens = [bytes([byte]) for byte in range(256)]
    keys = [descending_key(token) for token in tokens]
    ids, weights = lay_out(pretokens)
    places = find_pairs(ids)
    counts = {pair: sum([weights[start] for start in starts]) for pair, starts in places.items()}
    heap = [(-n, keys[left], keys[right], (left, right)) for (left, right), n in counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < n_merges:
        negative, left_key, right_key, pair = heapq.heappop(heap)
        if counts[pair] != -negative:
            heapq.heappush(heap, (-counts[pair], left_key, right_key, pair))
            continue
        if negative == 0:
            break  # no pair is left
        left, right = pair
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
        keys.append(descending_key(tokens[-1]))
        for lost, made, starts in join_everywhere(ids, places.pop(pair), pair, tokens):
            n = sum([weights[start] for start in starts])
            counts[lost] -= n
            counts[made] = counts.get(made, 0) + n
            places[made] = starts
            heapq.heappush(heap, (-counts[made], keys[made[0]], keys[made[1]], made))
        report(len(merges))
    return merges


def lay_out(pretokens: Mapping[bytes, int]) -> tuple[list[int], list[int]]:
    """All pre-tokens in one list of ids, an edge before and behind each, and each place's count.

    >>> lay_out({b"ab": 5, b"c": 2})
    ([-1, 97, 98, -1, 99, -1], [0, 5, 5, 5, 2, 2])
    """
    ids, weights = [EDGE], [0]
    for pretoken, n in pretokens.items():
        if n > 0:
            ids += [*pretoken, EDGE]
            weights += [n] * (len(pretoken) + 1)
    return ids, weights


def find_pairs(ids: list[int]) -> dict[IdPair, list[int]]:
    """The places of `ids` at which each pair of neighbours begins.

    >>> find_pairs([EDGE, 97, 98, 97, 98, EDGE])
    {(97, 98): [1, 3], (98, 97): [2]}
    """
    places: dict[IdPair, list[int]] = defaultdict(list)
    for start, pair in enumerate(pairwise(ids)):
        places[pair].append(start)
    return {pair: starts for pair, starts in places.items() if EDGE not in pair}


def join_everywhere(
    ids: list[int], starts: list[int], pair: IdPair, tokens: list[bytes]
) -> list[tuple[IdPair, IdPair, list[int]]]:
    """Join `pair` into the newest token wherever it is still found at one of `starts`.

    `ids` has a token's id at its first and at its last byte, so that both neighbours are found
    beside it. Returns, for each neighbour, the pair it was in, the pair it is in now, and where.

    >>> ids, tokens = lay_out({b"xaby": 1})[0], [bytes([byte]) for byte in range(256)] + [b"ab"]
    >>> join_everywhere(ids, [2], (97, 98), tokens)
    [((98, 121), (256, 121), [2]), ((120, 97), (120, 256), [1])]
    >>> ids
    [-1, 120, 256, 256, 121, -1]
    """
    left, right = pair
    new, n_left, n_both = len(tokens) - 1, len(tokens[left]), len(tokens[-1])
    before, behind = defaultdict(list), defaultdict(list)
    for start in starts:
        middle, end = start + n_left, start + n_both
        if ids[start] == left and ids[middle] == right:
            before[ids[start - 1]].append(start)
            behind[ids[end]].append(start)
            ids[middle] = INSIDE  # no token begins here any more
            ids[start] = ids[end - 1] = new
    changed = [((right, id), (new, id), found) for id, found in behind.items() if id != EDGE]
    for id, found in before.items():
        if id != EDGE:
            n_before = len(tokens[id])
            changed.append(((id, left), (id, new), [start - n_before for start in found]))
    return changed


def descending_key(token: bytes) -> str:
    """A string that sorts before another exactly when `token` sorts after it.

    >>> sorted([b"a", b"ab", b"b"], key=descending_key)
    [b'b', b'ab', b'a']
    """
    return "".join(chr(255 - byte) for byte in token) + chr(256)
