"""Finding documents that are there already, exactly or nearly. Lesson 4.

MinHash turns the set of a text's shingles, its pieces of n characters, into a short signature; two
signatures agree in the same share of places as the sets have in common.
"""

import hashlib

import numpy as np

BASE = np.uint32(0x9E3779B1)  # odd, with bits that look random
N_BANDS, N_ROWS = 16, 8  # bands of a signature, and numbers in a band
_DIGESTS = (hashlib.blake2b(bytes([i]), digest_size=8).digest() for i in range(N_BANDS * N_ROWS))
# x → a x + b mod 2^32, a odd, shuffles all 32-bit numbers: 128 such a and b.
SHUFFLES = np.frombuffer(b"".join(_DIGESTS), "<u4").astype(np.uint32).reshape(-1, 2) | [1, 0]


def comparable(text: str) -> str:
    """The text without what doesn't count when texts are compared: case and white space."""
    return " ".join(text.casefold().split())


class ExactDuplicates:
    """Knows the texts it has seen, by their SHA-256; case and white space don't count."""

    def __init__(self) -> None:
        self.sources: dict[bytes, str] = {}

    def add(self, text: str, source: str) -> str | None:
        """The source of the earlier text that equals this one; None, and remembered, if new."""
        digest = hashlib.sha256(comparable(text).encode("utf-8", errors="surrogatepass")).digest()
        earlier = self.sources.get(digest)
        self.sources.setdefault(digest, source)
        return earlier


def shingles(text: str, n: int = 20) -> np.ndarray:
    """A 32-bit number for each piece of `n` characters of `text`, in order: (len(text) - n + 1,).

    The number of the piece c_1 ... c_n is Σ c_i BASE^(n-i) mod 2^32, with its bits mixed as in the
    last step of MurmurHash3 (Austin Appleby). A text shorter than `n` is one piece. Sources:
    Broder, "On the resemblance and containment of documents", 1997; Karp and Rabin, "Efficient
    randomized pattern-matching algorithms", 1987.

    >>> len(shingles("hello hello", n=5)), len(set(shingles("hello hello", n=5).tolist()))
    (7, 6)
    """
    characters = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
    n = min(n, len(characters))
    numbers = np.zeros(len(characters) - n + 1, np.uint32)
    for place in range(n):  # for all pieces at once: their first characters, their second, ...
        numbers = numbers * BASE + characters[place : place + len(numbers)]
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        numbers = (numbers ^ (numbers >> np.uint32(shift))) * np.uint32(factor)
    return numbers


def signature(numbers: np.ndarray) -> np.ndarray:
    """The MinHash (128,) of a set of 32-bit numbers: for each shuffle, the member that comes first.

    Which member comes first is chance, and each member of the union of two sets is as likely as any
    other. It is in both sets, and then the same for both, with probability |A ∩ B| / |A ∪ B|, the
    Jaccard similarity. Source: Broder 1997.
    """
    last = 2**32 - 1  # the signature of nothing
    firsts = [(np.uint32(a) * numbers + np.uint32(b)).min(initial=last) for a, b in SHUFFLES]
    return np.array(firsts, np.uint32)


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """The share of places where two signatures agree: an estimate of the sets' Jaccard similarity.

    Its standard error is √(s (1 - s) / n), at most 0.044 for n = 128.
    """
    return float((a == b).mean())


class NearDuplicates:
    """Knows the texts it has seen by their MinHash; finds those at least `threshold` similar.

    A signature is cut into 16 bands of 8 numbers. Only texts that agree in a whole band are
    compared: for texts of similarity s with probability 1 - (1 - s^8)^16, which is 0.06 for 0.5 and
    0.95 for 0.8. Source: Leskovec et al., "Mining of Massive Datasets", 2020, section 3.4.

    >>> seen, text = NearDuplicates(threshold=0.8), "It was the best of times. " * 9
    >>> seen.add(text, "a.txt"), seen.add(text + "The end.", "b.txt")
    (None, 'a.txt')
    """

    def __init__(self, threshold: float = 0.8) -> None:
        self.threshold = threshold
        # Signatures are kept as their bands, whose bytes the dicts hold anyway.
        self.seen: list[tuple[str, list[bytes]]] = []  # sources and signatures
        self.bands: list[dict[bytes, int]] = [{} for _ in range(N_BANDS)]

    def add(self, text: str, source: str) -> str | None:
        """The source of an earlier text much like this one; None, and remembered, if new."""
        own = signature(shingles(comparable(text)))
        keys = [band.tobytes() for band in own.reshape(N_BANDS, N_ROWS)]
        found = {band[key] for band, key in zip(self.bands, keys, strict=True) if key in band}
        for name, signed in (self.seen[number] for number in sorted(found)):
            if similarity(own, np.frombuffer(b"".join(signed), np.uint32)) >= self.threshold:
                return name
        for band, key in zip(self.bands, keys, strict=True):
            # The first text with this band stands for all: no input can make one `add` slow.
            band.setdefault(key, len(self.seen))
        self.seen.append((source, keys))
        return None
