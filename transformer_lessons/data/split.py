"""Which documents are trained on, validated on, and kept for the last test. Lesson 4."""

import hashlib

SPLITS = ("train", "validation", "test")


def split_of(text: str, validation: float, test: float, seed: int = 0) -> str:
    """The split of a document: "train", "validation" or "test", by the hash of its text.

    The first 64 bits of BLAKE2b(seed, text), as a number u from 0 to 1, decide: test if u < test,
    validation if u < test + validation, else train. No other document has a say.

    >>> [split_of(text, validation=0.25, test=0.25) for text in ("one", "two", "three")]
    ['train', 'train', 'validation']
    """
    data, key = text.encode("utf-8", errors="surrogatepass"), seed.to_bytes(8, "little")
    u = int.from_bytes(hashlib.blake2b(data, digest_size=8, key=key).digest(), "little") / 2**64
    return "test" if u < test else "validation" if u < test + validation else "train"
