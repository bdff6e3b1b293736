"""Quality: what a text looks like when there is nothing to learn from it, in any language.

Lesson 4. Length and share of letters are among the filters of Rae et al., "Scaling Language Models:
Methods, Analysis & Insights from Training Gopher", 2021, appendix A.
"""

import unicodedata
import zlib
from collections import Counter

from transformer_lessons.data.config import DataConfig


def check_quality(text: str, limits: DataConfig) -> tuple[str, str] | None:
    """Why `text` is dropped, in words that can be counted and in figures; None when it is kept.

    >>> check_quality("la " * 100, DataConfig())
    ('repeats itself', 'compressed to 0.05 of its size')
    """
    if len(text) < limits.min_characters:
        return "too short", f"{len(text)} characters"
    if (share := letter_share(text)) < limits.min_letters:
        return "too few letters", f"{share:.2f} of it are letters or digits"
    if (share := compressed_share(text)) < limits.min_compressed:
        return "repeats itself", f"compressed to {share:.2f} of its size"
    return None


def letter_share(text: str) -> float:
    """The share of letters, the marks on letters, and digits in what is not white space."""
    counts = {c: n for c, n in Counter(text).items() if not c.isspace()}
    n_letters = sum(n for c, n in counts.items() if unicodedata.category(c)[0] in "LMN")
    return n_letters / max(sum(counts.values()), 1)


def compressed_share(text: str) -> float:
    """The size of the text after compression by zlib, as a share of its size before (RFC 1950)."""
    data = text.encode("utf-8", errors="surrogatepass")
    return len(zlib.compress(data)) / max(len(data), 1)
