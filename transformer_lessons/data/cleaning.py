"""Cleaning a text: small steps, each from text to text. Lesson 4."""

import re
import unicodedata

import regex


def drop_control_characters(text: str) -> str:
    """Without NUL, other control characters than tab and line ends, and byte-order marks."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]", "", text)


def normalize_line_ends(text: str) -> str:
    """Every line ends with a line feed: not with CR LF, CR, or Unicode's own three."""
    return re.sub("\r\n|[\r\x85\u2028\u2029]", "\n", text)


def normalize_unicode(text: str) -> str:
    """In Unicode's form NFC: an e and a combining accent become the one character é.

    Of more than 30 combining marks in a row the rest is dropped: no language needs them, and
    putting n of them in order takes n² steps. Source: Unicode Standard Annex #15.
    """
    return unicodedata.normalize("NFC", regex.sub(r"(\p{M}{30})\p{M}++", r"\1", text))


def drop_section_markers(text: str) -> str:
    """Without lines of four or more of - = * # _ ~ + | and nothing else: they only draw."""
    return re.sub(r"(?m)^[^\S\n]*+(?:[-=*#_~+|][^\S\n]*+){4,}+(?:\n|\Z)", "", text)


def collapse_white_space(text: str) -> str:
    """Without spaces at the ends of lines, with at most two blank lines in a row; indents stay."""
    lines = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub("\n{4,}+", "\n\n\n", lines).strip("\n")


# In this order: what an earlier step removes may bring together what a later one looks for.
STEPS = (drop_control_characters, normalize_line_ends, normalize_unicode, drop_section_markers,
         collapse_white_space)  # fmt: skip


def clean(text: str) -> tuple[str, list[str]]:
    """The text after all `STEPS`, and the names of those that changed it.

    >>> clean("a\\r\\nb  ")
    ('a\\nb', ['normalize_line_ends', 'collapse_white_space'])
    """
    changed = []
    for step in STEPS:
        before, text = text, step(text)
        changed += [step.__name__] if text != before else []
    return text, changed
