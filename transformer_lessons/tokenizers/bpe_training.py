"""Learning the merges of byte-pair encoding: again and again, join the most frequent pair.

A chunk of text (a word, say) starts as its bytes. The pair of neighbours that is most frequent over
all chunks becomes a new token, everywhere; then the next. Of pairs that are equally frequent, the
lexicographically greater is taken: compare the left tokens' bytes, then the right ones'.
Sources: Gage 1994, "A New Algorithm for Data Compression"; Sennrich et al. 2016, "Neural Machine
Translation of Rare Words with Subword Units".
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from itertools import pairwise

Pair = tuple[bytes, bytes]
IdPair = tuple[int, int]
EDGE = -1  # what stands between chunks
INSIDE = -2  # where a token began that is now the second half of another


def learn_merges_naively(chunks: Mapping[bytes, int], n_merges: int) -> list[Pair]:
    """The merges, by counting all pairs anew for each of them: chunks x merges steps.

    `chunks` says how often each chunk occurs. Fewer merges come back when no pair is left.

    >>> learn_merges_naively({b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}, n_merges=3)
    [(b's', b't'), (b'e', b'st'), (b'o', b'w')]
    """
    words = [([bytes([byte]) for byte in chunk], n) for chunk, n in chunks.items() if n > 0]
    merges = []
    while len(merges) < n_merges:
        counts: Counter[Pair] = Counter()
        for word, count in words:
            for pair in pairwise(word):
                counts[pair] += count
        if not counts:
            break
        best = max(counts, key=lambda pair: (counts[pair], pair))
        words = [(join_pair(word, best), count) for word, count in words]
        merges.append(best)
    return merges


def join_pair(word: list[bytes], pair: Pair) -> list[bytes]:
    """`word` with every occurrence of `pair`, from the left, made one token.

    >>> join_pair([b"a", b"a", b"a"], (b"a", b"a"))
    [b'aa', b'a']
    """
    joined, i = [], 0
    while i < len(word):
        if tuple(word[i : i + 2]) == pair:
            joined.append(pair[0] + pair[1])
            i += 2
        else:
            joined.append(word[i])
            i += 1
    return joined


def learn_merges(
    chunks: Mapping[bytes, int],
    n_merges: int,
    report: Callable[[int], None] = lambda n_done: None,
) -> list[Pair]:
    """The same merges as `learn_merges_naively`, keeping counts and places up to date instead.

    A merge changes only the pairs beside the places where it joins: all merges together take a
    number of steps in proportion to the text. A heap brings up the most frequent pair. Every pair
    that a merge makes holds the new token; from then on the pair can only become less frequent.
    So its entry in the heap is never too small, and is put right when it comes up.
    `report` is called with the number of merges so far.

    >>> learn_merges({b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}, n_merges=3)
    [(b's', b't'), (b'e', b'st'), (b'o', b'w')]
    """
    tokens = [bytes([byte]) for byte in range(256)]
    keys = [descending_key(token) for token in tokens]
    ids, weights = lay_out(chunks)
    counts, places = find_pairs(ids, weights)
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
            counts[made] += n
            places[made] = starts
            heapq.heappush(heap, (-counts[made], keys[made[0]], keys[made[1]], made))
        report(len(merges))
    return merges


def lay_out(chunks: Mapping[bytes, int]) -> tuple[list[int], list[int]]:
    """All chunks in one list of ids, with an edge before and behind each, and each place's count.

    >>> lay_out({b"ab": 5, b"c": 2})
    ([-1, 97, 98, -1, 99, -1], [0, 5, 5, 5, 2, 2])
    """
    ids, weights = [EDGE], [0]
    for chunk, n in chunks.items():
        if n > 0:
            ids += [*chunk, EDGE]
            weights += [n] * (len(chunk) + 1)
    return ids, weights


def find_pairs(
    ids: list[int], weights: list[int]
) -> tuple[dict[IdPair, int], dict[IdPair, list[int]]]:
    """How often each pair of neighbours occurs, and at which places of `ids` it begins.

    >>> counts, places = find_pairs(*lay_out({b"ab": 5, b"bab": 2}))
    >>> counts[97, 98], places[97, 98]
    (7, [1, 5])
    """
    places: dict[IdPair, list[int]] = defaultdict(list)
    for start, pair in enumerate(pairwise(ids)):
        places[pair].append(start)
    places = {pair: starts for pair, starts in places.items() if EDGE not in pair}
    counts: dict[IdPair, int] = defaultdict(int)
    for pair, starts in places.items():
        counts[pair] = sum([weights[start] for start in starts])
    return counts, places


def join_everywhere(
    ids: list[int], starts: list[int], pair: IdPair, tokens: list[bytes]
) -> list[tuple[IdPair, IdPair, list[int]]]:
    """Join `pair` into the newest token wherever it is still found at one of `starts`.

    Tokens stay where their bytes were: `ids` has a token's id at its first and at its last byte,
    so that both neighbours of a token are found beside it. Returns, for each neighbour, the pair
    it was in, the pair it is in now, and where that one begins.

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
