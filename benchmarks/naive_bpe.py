"""Lesson 3's naive learner of merges, which the package's is tested and timed against."""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

from transformer_lessons.tokenizers.bpe_training import Pair


def learn_merges_naively(pretokens: Mapping[bytes, int], n_merges: int) -> list[Pair]:
    """The merges, by counting all pairs anew for each of them: pre-tokens x merges steps.

    `pretokens` says how often each occurs. Fewer merges come back when no pair is left.

    >>> learn_merges_naively({b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}, n_merges=3)
    [(b's', b't'), (b'e', b'st'), (b'o', b'w')]
    """
    words = [([bytes([byte]) for byte in word], n) for word, n in pretokens.items() if n > 0]
    merges: list[Pair] = []
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
        found = tuple(word[i : i + 2]) == pair
        joined.append(pair[0] + pair[1] if found else word[i])
        i += 2 if found else 1
    return joined
