"""A text as the set of its shingles: all its pieces of n characters, overlapping like shingles.

Texts that share most of their shingles are near duplicates; a text whose shingles are mostly the
same one says the same thing again and again.
"""

import numpy as np

BASE = np.uint32(0x9E3779B1)  # odd, with bits that look random


def comparable(text: str) -> str:
    """The text without what doesn't count when texts are compared: case and white space.

    >>> comparable("  Hello\\n\\tWorld ")
    'hello world'
    """
    return " ".join(text.casefold().split())


def shingles(text: str, n: int = 20) -> np.ndarray:
    """A 32-bit number for each piece of `n` characters of `text`, in order: (len(text) - n + 1,).

    The number of the piece c_1 ... c_n is Σ c_i BASE^(n-i) mod 2^32, with its bits mixed. It is
    the same on every machine, and two different pieces have the same one in 2^32. A text shorter
    than `n` is one piece. Source: Broder, "On the resemblance and containment of documents", 1997;
    Karp and Rabin, "Efficient randomized pattern-matching algorithms", 1987.

    >>> len(shingles("hello hello", n=5)), len(set(shingles("hello hello", n=5).tolist()))
    (7, 6)
    """
    characters = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
    n = min(n, len(characters))
    numbers = np.zeros(len(characters) - n + 1, np.uint32)
    for place in range(n):  # for all pieces at once: their first characters, their second, ...
        numbers *= BASE
        numbers += characters[place : place + len(numbers)]
    return mix_bits(numbers)


def mix_bits(numbers: np.ndarray) -> np.ndarray:
    """Each 32-bit number replaced by another, one to one, in which every bit depends on all bits.

    Source: the last step of MurmurHash3, by Austin Appleby.
    """
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        numbers = (numbers ^ (numbers >> np.uint32(shift))) * np.uint32(factor)
    return numbers ^ (numbers >> np.uint32(16))


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """How alike two sets are: |A ∩ B| / |A ∪ B|, from 0 to 1; two empty sets are alike.

    >>> jaccard(np.array([1, 2, 3]), np.array([2, 3, 4]))
    0.5
    """
    first, second = set(a.tolist()), set(b.tolist())
    return len(first & second) / len(first | second) if first or second else 1.0
