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
    """The same merges as `learn_merges_naively`, keeping counts up to date instead.

    A merge changes only the chunks that hold the pair, and only the pairs beside it. A heap brings
    up the most frequent pair; an entry whose count is out of date is dropped when it comes up.
    `report` is called with the number of merges so far. One endless chunk still takes long.

    >>> learn_merges({b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}, n_merges=3)
    [(b's', b't'), (b'e', b'st'), (b'o', b'w')]
    """
    tokens = [bytes([byte]) for byte in range(256)]
    keys = [descending_key(token) for token in tokens]
    words, word_counts = [list(chunk) for chunk in chunks], list(chunks.values())
    counts, places = count_pairs(words, word_counts)
    heap = [(-n, keys[pair[0]], keys[pair[1]], pair) for pair, n in counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < n_merges:
        negative, _, _, pair = heapq.heappop(heap)
        if counts.get(pair) != -negative or negative == 0:
            continue  # out of date: the new count is in the heap as well
        left, right = pair
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
        keys.append(descending_key(tokens[-1]))
        changed: dict[IdPair, int] = defaultdict(int)
        for index in places.pop(pair):
            before, after = words[index], replace_pair(words[index], pair, len(tokens) - 1)
            for sign, word in ((-1, before), (1, after)):
                for near in pairwise(word):
                    changed[near] += sign * word_counts[index]
            for near in pairwise(after):
                places[near].add(index)
            words[index] = after
        for near, difference in changed.items():
            if difference:
                counts[near] += difference
                heapq.heappush(heap, (-counts[near], keys[near[0]], keys[near[1]], near))
        del counts[pair]
        report(len(merges))
    return merges


def count_pairs(
    words: list[list[int]], word_counts: list[int]
) -> tuple[dict[IdPair, int], dict[IdPair, set[int]]]:
    """How often each pair of neighbours occurs, and the numbers of the words that hold it.

    >>> count_pairs([[1, 2], [1, 2, 1]], word_counts=[5, 2])[0][1, 2]
    7
    """
    counts: dict[IdPair, int] = defaultdict(int)
    places: dict[IdPair, set[int]] = defaultdict(set)
    for index, word in enumerate(words):
        for pair in pairwise(word):
            counts[pair] += word_counts[index]
            places[pair].add(index)
    return counts, places


def replace_pair(word: list[int], pair: IdPair, new: int) -> list[int]:
    """`word` with every occurrence of `pair`, from the left, replaced by the token `new`."""
    replaced, i, last = [], 0, len(word) - 1
    left, right = pair
    while i <= last:
        if word[i] == left and i < last and word[i + 1] == right:
            replaced.append(new)
            i += 2
        else:
            replaced.append(word[i])
            i += 1
    return replaced


def descending_key(token: bytes) -> str:
    """A string that sorts before another exactly when `token` sorts after it.

    >>> sorted([b"a", b"ab", b"b"], key=descending_key)
    [b'b', b'ab', b'a']
    """
    return "".join(chr(255 - byte) for byte in token) + chr(256)
