"""Quality: what a text looks like when there is nothing to learn from it, in any language.

Lesson 4. Source: Rae et al., "Scaling Language Models: Methods, Analysis & Insights from Training
Gopher", 2021, appendix A; the limits for repetition are wider, because code repeats itself.
"""

import unicodedata
from collections import Counter
from dataclasses import dataclass

import numpy as np

from transformer_lessons.config import Count, Fraction, check_fields
from transformer_lessons.data.deduplication import comparable, shingles


@dataclass(frozen=True)
class QualityLimits:
    """From where on a text is dropped. Impossible values raise `LessonsError`, naming the field."""

    min_characters: Count = 100  # a shorter text is dropped
    min_letters: Fraction = 0.5  # least share of letters and digits in what is not white space
    max_repeated_lines: Fraction = 0.4  # largest share of the text in lines that were there before
    max_repeated_shingle: Fraction = 0.3  # largest share of the text that one shingle may cover
    max_line: Count = 1_000_000  # characters of the longest line; by default no limit

    def __post_init__(self) -> None:
        check_fields(self)


def check_quality(text: str, limits: QualityLimits) -> tuple[str, str] | None:
    """Why `text` is dropped, in words that can be counted and in figures; None when it is kept.

    >>> check_quality("la " * 100, QualityLimits())
    ('repeats itself', 'one piece of 10 characters covers 1.00 of it')
    """
    if len(text) < limits.min_characters:
        return "too short", f"{len(text)} characters"
    if (longest := max(map(len, text.split("\n")))) > limits.max_line:
        return "line too long", f"{longest} characters"
    if (share := letter_share(text)) < limits.min_letters:
        return "too few letters", f"{share:.2f} of it are letters or digits"
    if (share := repeated_line_share(text)) > limits.max_repeated_lines:
        return "repeated lines", f"{share:.2f} of it are lines that were there before"
    if (share := repeated_shingle_share(text)) > limits.max_repeated_shingle:
        return "repeats itself", f"one piece of 10 characters covers {share:.2f} of it"
    return None


def letter_share(text: str) -> float:
    """The share of letters, the marks on letters, and digits in what is not white space."""
    counts = {c: n for c, n in Counter(text).items() if not c.isspace()}
    n_letters = sum(n for c, n in counts.items() if unicodedata.category(c)[0] in "LMN")
    return n_letters / max(sum(counts.values()), 1)


def repeated_line_share(text: str) -> float:
    """The share of the characters (not of the lines) that stand in lines that were there before."""
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    n_distinct = sum(map(len, set(lines)))
    return 1 - n_distinct / n_all if (n_all := sum(map(len, lines))) else 0.0


def repeated_shingle_share(text: str, n: int = 10) -> float:
    """The share of the text that its most frequent piece of `n` characters covers, if it repeats.

    >>> repeated_shingle_share("0123456789 ABCDEFGHIJ 0123456789")
    0.625
    """
    text = comparable(text)
    pieces = shingles(text, n)
    kinds, counts = np.unique_counts(pieces)
    if counts.max(initial=0) < 2:
        return 0.0
    places = np.flatnonzero(pieces == kinds[counts.argmax()])
    # Where a piece overlaps itself, as in a rule of dashes, only the new characters count.
    covered = np.minimum(np.diff(places, append=places[-1] + n), n).sum()
    return float(covered / len(text))
