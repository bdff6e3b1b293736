"""Finding texts that are there already, exactly or nearly.

Two copies of a page rarely have the same bytes: a date differs, or a menu. MinHash turns the set of
a text's shingles into a short row of numbers, its signature, such that two signatures agree in the
same share of places as the sets have in common. Banding finds the signatures that agree without
comparing each to each.
"""

import hashlib

import numpy as np

from transformer_lessons.data.shingles import comparable, shingles

N_BANDS, N_ROWS = 16, 8  # bands of a signature, and numbers in a band


class ExactDuplicates:
    """Knows the texts it has seen, by their SHA-256; case and white space don't count.

    >>> seen = ExactDuplicates()
    >>> seen.add("Hello world", "a.txt"), seen.add("hello  world", "b.txt")
    (None, 'a.txt')
    """

    def __init__(self) -> None:
        self.sources: dict[bytes, str] = {}

    def add(self, text: str, source: str) -> str | None:
        """The source of the earlier text that equals this one; None, and remembered, if new."""
        digest = hashlib.sha256(comparable(text).encode("utf-8", errors="surrogatepass")).digest()
        earlier = self.sources.get(digest)
        if earlier is None:
            self.sources[digest] = source
        return earlier


def permutations(n_hashes: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers a, odd, and b, each (n_hashes,): x → a x + b mod 2^32 shuffles all 32-bit numbers.

    They come from BLAKE2b, so they are the same on every machine and in every process.
    """
    digests = [hashlib.blake2b(bytes([i]), digest_size=8).digest() for i in range(n_hashes)]
    numbers = np.frombuffer(b"".join(digests), "<u4").astype(np.uint32)
    return numbers[0::2] | np.uint32(1), numbers[1::2]


def signature(numbers: np.ndarray, n_hashes: int = N_BANDS * N_ROWS) -> np.ndarray:
    """The MinHash of a set of 32-bit numbers: for each shuffle of all numbers, its first member.

    Which member comes first is chance, and each member of the union of two sets is as likely as any
    other. It is in both sets, and then the same for both, with probability |A ∩ B| / |A ∪ B|:

        P(signature(A)[i] = signature(B)[i]) = jaccard(A, B)

    Shape (n_hashes,). Source: Broder, "On the resemblance and containment of documents", 1997.

    >>> signature(shingles("Any text has one."), n_hashes=4).shape
    (4,)
    """
    last = 2**32 - 1  # the signature of nothing
    a_and_b = zip(*permutations(n_hashes), strict=True)
    return np.array([(a * numbers + b).min(initial=last) for a, b in a_and_b], np.uint32)


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """The share of places where two signatures agree: an estimate of the sets' `jaccard`.

    Its standard error is √(s (1 - s) / n), at most 0.044 for n = 128.

    >>> similarity(np.array([1, 2, 3, 4]), np.array([1, 2, 9, 4]))
    0.75
    """
    return float((a == b).mean())


class NearDuplicates:
    """Knows the texts it has seen by their MinHash; finds those at least `threshold` similar.

    A signature is cut into b bands of r numbers. Only texts that agree in a whole band are
    compared. For texts of similarity s that happens with probability 1 - (1 - s^r)^b; 16 bands of
    8 numbers make that 0.06 for s = 0.5, 0.61 for 0.7, 0.95 for 0.8 and 0.9999 for 0.9. Memory
    grows by about 3 kB for each text that is kept, however long it is. Source: Leskovec, Rajaraman
    and Ullman, "Mining of Massive Datasets", 2020, section 3.4.

    >>> seen, text = NearDuplicates(threshold=0.8), "It was the best of times. " * 9
    >>> seen.add(text, "a.txt"), seen.add(text + "The end.", "b.txt")
    (None, 'a.txt')
    """

    def __init__(self, threshold: float = 0.8) -> None:
        self.threshold = threshold
        self.sources: list[str] = []
        # A signature is kept as its bands, whose bytes the dicts hold anyway. Kept as arrays, they
        # would stand scattered between the texts that come and go, and memory would fray.
        self.signatures: list[list[bytes]] = []
        self.bands: list[dict[bytes, int]] = [{} for _ in range(N_BANDS)]

    def add(self, text: str, source: str) -> str | None:
        """The source of an earlier text much like this one; None, and remembered, if new."""
        own = signature(shingles(comparable(text)))
        keys = [band.tobytes() for band in own.reshape(N_BANDS, N_ROWS)]
        found = {band.get(key) for band, key in zip(self.bands, keys, strict=True)} - {None}
        for earlier in sorted(found):
            its = np.frombuffer(b"".join(self.signatures[earlier]), np.uint32)
            if similarity(own, its) >= self.threshold:
                return self.sources[earlier]
        self.remember(keys, source)
        return None

    def remember(self, keys: list[bytes], source: str) -> None:
        """Know the text from `source`, whose signature has the bands `keys`, from now on."""
        for band, key in zip(self.bands, keys, strict=True):
            # The first text with this band stands for all: no input can make one `add` slow.
            band.setdefault(key, len(self.sources))
        self.sources.append(source)
        self.signatures.append(keys)
