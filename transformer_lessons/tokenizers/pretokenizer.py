"""Cutting text into chunks that byte-pair encoding never merges across: words, numbers, spaces.

Merging is confined to one chunk, so that "dog." and "dog!" share a token and training can count
each chunk once, however often it occurs.
"""

from collections.abc import Iterable, Iterator, Sequence

import regex

from transformer_lessons.errors import LessonsError

# gpt2, gpt4: OpenAI's tiktoken, openai_public.py (r50k_base and cl100k_base). The others are those
# of published models, from their tokenizer.json, and differ in little. smollm2 is gpt2 with every
# digit apart, also from a space before it. llama3 is gpt4 but for white space at the end; qwen2 is
# llama3 with every digit apart.
PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|"
    r" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    "smollm2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++|\p{N}| ?[^\s\p{L}\p{N}]++|"
    r"\s++$|\s++(?=\p{N})|\s+(?!\S)|\s",
    "llama3": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|"
    r" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s*[\r\n]|\s+(?!\S)|\s",
    "qwen2": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}|"
    r" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s*[\r\n]|\s+(?!\S)|\s",
}
LOOK_AGAIN = 65_536  # characters: how much text a stream gathers before it is cut


def split_pattern(name: str) -> regex.Pattern:
    """The compiled pattern called `name`, one of `PATTERNS`; another name raises `LessonsError`."""
    if name not in PATTERNS:
        remedy = f"Known patterns: {', '.join(PATTERNS)}."
        raise LessonsError(f"unknown split pattern {name!r}", where="pattern", remedy=remedy)
    return regex.compile(PATTERNS[name])


def special_pattern(special_tokens: Iterable[str]) -> regex.Pattern | None:
    """Matches any of `special_tokens`, the longest that fits; None when there are none."""
    longest_first = sorted(special_tokens, key=len, reverse=True)
    return regex.compile("|".join(map(regex.escape, longest_first))) if longest_first else None


def split_text(text: str, pattern: str = "gpt4") -> list[str]:
    """The chunks of `text`, in order; joined, they are the text.

    >>> split_text("Hello world, it's 2024!")
    ['Hello', ' world', ',', ' it', "'s", ' ', '202', '4', '!']
    """
    return split_pattern(pattern).findall(text)


def stream_chunks(
    pieces: Iterable[str], pattern: str = "gpt4", special_tokens: Sequence[str] = ()
) -> Iterator[tuple[str, bool]]:
    """The chunks of a text that arrives in `pieces`, and whether each is a special token.

    The same chunks as for the whole text, wherever it was cut; only a little of it is held. Special
    tokens are hard boundaries: they are found first, and what is between them is split.

    >>> pieces = ["Hel", "lo wor", "ld<|e", "nd|>x"]
    >>> list(stream_chunks(pieces, special_tokens=["<|end|>"]))
    [('Hello', False), (' world', False), ('<|end|>', True), ('x', False)]
    """
    split, special = split_pattern(pattern), special_pattern(special_tokens)
    longest = max(map(len, special_tokens), default=1)
    held, wanted = "", LOOK_AGAIN
    for piece in pieces:
        held += piece
        if len(held) < wanted:
            continue
        chunks, end = _cut(held, split, special, longest, final=False)
        yield from chunks
        held = held[end:]
        wanted = max(LOOK_AGAIN, 2 * len(held))  # one endless chunk must not be scanned each time
    yield from _cut(held, split, special, longest, final=True)[0]


def _cut(
    text: str, split: regex.Pattern, special: regex.Pattern | None, longest: int, final: bool
) -> tuple[list[tuple[str, bool]], int]:
    """The chunks of `text` that later text can't change, and where the rest begins."""
    chunks, start = [], 0
    # A special token that begins after `sure` may go on in what has not arrived yet; and so may an
    # ending like 'll, which is settled only two letters behind its apostrophe.
    sure = len(text) if final else len(text) - max(longest, 2)
    for match in special.finditer(text) if special else ():
        if match.start() > sure:
            break
        chunks += [(chunk, False) for chunk in split.findall(text[start : match.start()])]
        chunks.append((match.group(), True))
        start = match.end()
    if final:
        return chunks + [(chunk, False) for chunk in split.findall(text[start:])], len(text)
    spans = [match.span() for match in split.finditer(text, start)]
    # A chunk is settled once another begins behind it that is sure to be there; white space is
    # not, because how it is cut depends on what follows all of it.
    places = (b for b, _ in reversed(spans) if start < b <= sure and not text[b - 1].isspace())
    end = next(places, start)
    return chunks + [(text[a:b], False) for a, b in spans if b <= end], end
