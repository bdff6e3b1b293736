"""Cleaning a text: small steps, from text to text, that can be switched off. Lesson 4."""

import re
import unicodedata
from collections.abc import Collection

import regex

from transformer_lessons.errors import LessonsError


def drop_null_bytes(text: str) -> str:
    """Without the character 0, which files that were cut or padded are full of."""
    return text.replace("\0", "")


def normalize_line_ends(text: str) -> str:
    """Every line ends with a line feed: not with CR LF, CR, or Unicode's own three."""
    return re.sub("\r\n|[\r\x85\u2028\u2029]", "\n", text)


def drop_control_characters(text: str) -> str:
    """Without control characters other than tab and line ends, and without byte order marks."""
    return re.sub("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]", "", text)


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
STEPS = {
    "drop_null_bytes": drop_null_bytes,
    "normalize_line_ends": normalize_line_ends,
    "drop_control_characters": drop_control_characters,
    "normalize_unicode": normalize_unicode,
    "drop_section_markers": drop_section_markers,
    "collapse_white_space": collapse_white_space,
}


def clean(text: str, steps: Collection[str] = tuple(STEPS)) -> tuple[str, list[str]]:
    """The text after the chosen steps, in the order of `STEPS`, and which of them changed it.

    >>> clean("a\\r\\nb  ", steps=["normalize_line_ends", "collapse_white_space"])
    ('a\\nb', ['normalize_line_ends', 'collapse_white_space'])
    """
    changed = []
    for name, step in STEPS.items():
        if name in steps and (cleaned := step(text)) != text:
            text = cleaned
            changed.append(name)
    return text, changed


def _check_steps(names: Collection[str], where: str) -> None:
    for name in names:
        if name not in STEPS or list(names).count(name) > 1:
            what = f"{name!r} {'is there twice' if name in STEPS else 'is not a cleaning step'}"
            remedy = f"Steps, each at most once: {', '.join(STEPS)}."
            raise LessonsError(what, where=where, remedy=remedy)
