"""Finding documents that are there already, exactly or nearly. Lesson 4.

Source: Broder, "On the resemblance and containment of documents", 1997.
"""

import hashlib

import numpy as np

N_BANDS, N_ROWS = 16, 8  # bands of a signature, and numbers in a band
_random = np.random.RandomState(0)  # NumPy promises that its numbers stay the same
FACTORS = _random.randint(2**32, size=20, dtype=np.uint32)
# x → a x + b mod 2^32, a odd, shuffles all 32-bit numbers: 128 such a and b.
SHUFFLES = _random.randint(2**32, size=(N_BANDS * N_ROWS, 2), dtype=np.uint32)
SHUFFLES[:, 0] |= 1


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
    """A number for each piece of `n` characters of `text`, in order: (len(text) - n + 1,), 32 bits.

    The number of the piece c_1 ... c_n is Σ c_i f_i mod 2^32, with random factors f; n is at most
    20. A shorter text is one piece.

    >>> len(shingles("hello hello", n=5)), len(set(shingles("hello hello", n=5).tolist()))
    (7, 6)
    """
    characters = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
    n = min(len(characters), n)
    return np.lib.stride_tricks.sliding_window_view(characters, n) @ FACTORS[:n]


def signature(numbers: np.ndarray) -> np.ndarray:
    """The MinHash (128,) of a set of 32-bit numbers: for each shuffle, the member that comes first.

    Each member of the union of two sets is as likely as any other to come first. It is the first of
    both if both have it: with probability |A ∩ B| / |A ∪ B|, the Jaccard similarity.
    """
    last = 2**32 - 1  # the signature of nothing
    firsts = [(np.uint32(a) * numbers + np.uint32(b)).min(initial=last) for a, b in SHUFFLES]
    return np.array(firsts, np.uint32)


class NearDuplicates:
    """Knows the texts it has seen by their MinHash; finds those at least `threshold` similar.

    A signature is cut into 16 bands of 8 numbers. Only texts that agree in a whole band are
    compared: for texts of similarity s with probability 1 - (1 - s^8)^16, which is 0.06 for 0.5 and
    0.95 for 0.8. Source: Leskovec et al., "Mining of Massive Datasets", 2020, section 3.4.

    >>> seen, text = NearDuplicates(threshold=0.8), "It was the best of times. " * 9
    >>> seen.add(text, "a.txt"), seen.add(text + "End.", "b.txt")
    (None, 'a.txt')
    """

    def __init__(self, threshold: float = 0.8) -> None:
        self.threshold = threshold
        self.seen: list[tuple[str, np.ndarray]] = []  # sources and signatures
        self.first: dict[tuple[int, bytes], int] = {}  # the first text with a band stands for all

    def add(self, text: str, source: str) -> str | None:
        """The source of an earlier text much like this one; None, and remembered, if new."""
        own = signature(shingles(comparable(text)))
        bands = [(i, band.tobytes()) for i, band in enumerate(own.reshape(N_BANDS, N_ROWS))]
        for number in sorted({self.first[band] for band in bands if band in self.first}):
            earlier, other = self.seen[number]
            if (own == other).mean() >= self.threshold:  # the similarity, as estimated
                return earlier
        for band in bands:
            self.first.setdefault(band, len(self.seen))
        self.seen.append((source, own))
        return None
