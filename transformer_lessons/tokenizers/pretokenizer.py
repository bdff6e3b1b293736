"""Cutting text into pre-tokens, which byte-pair encoding never merges across. Lesson 3."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

import regex

from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.byte_tokenizer import utf8_bytes

# gpt2 and gpt4 are from tiktoken (r50k_base, cl100k_base), the others from models' tokenizer.json.
# smollm2: gpt2, every digit apart; llama3: gpt4 but for white space at the end; qwen2: digits too.
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
BLOCK = 1 << 20  # characters: what a worker process is given at a time
STRETCH = 1 << 14  # characters: how much text is split at a time


def split_pattern(name: str) -> regex.Pattern:
    """The compiled pattern called `name`, one of `PATTERNS`; another name raises `LessonsError`."""
    if name not in PATTERNS:
        remedy = f"Known patterns: {', '.join(PATTERNS)}."
        raise LessonsError(f"unknown split pattern {name!r}", where="pattern", remedy=remedy)
    return regex.compile(PATTERNS[name])


def ascii_pattern(name: str) -> re.Pattern:
    r"""The same pattern for text of ASCII characters only, in Python's own, faster `re`.

    >>> ascii_pattern("gpt4").findall("Hello world, it's 2024!")
    ['Hello', ' world', ',', ' it', "'s", ' ', '202', '4', '!']
    """
    pattern = PATTERNS[name].replace(r"\p{L}\p{N}]", "a-zA-Z0-9]")
    pattern = pattern.replace(r"\p{L}", "[a-zA-Z]").replace(r"\p{N}", "[0-9]")
    return re.compile(pattern, re.ASCII)


def pretokenize(text: str, pattern: str = "gpt4") -> list[str]:
    """`split_pattern(pattern).findall(text)`, in less time where the text is ASCII.

    >>> pretokenize("né à Paris, 1871")
    ['né', ' à', ' Paris', ',', ' ', '187', '1']
    """
    any_script, ascii_only = split_pattern(pattern), ascii_pattern(pattern)
    pretokens: list[str] = []
    for stretch in safe_blocks([text], size=STRETCH):
        pretokens += (ascii_only if stretch.isascii() else any_script).findall(stretch)
    return pretokens


def special_pattern(special_tokens: Iterable[str]) -> regex.Pattern:
    """Matches any of `special_tokens`, the longest that fits; nothing when there are none."""
    longest_first = sorted(special_tokens, key=len, reverse=True)
    return regex.compile("|".join(map(regex.escape, longest_first)) or "(?!)")


def split_special(
    text: str,
    special_tokens: Collection[str],
    allowed_special: Iterable[str] | str,
    n_before: int = 0,
) -> Iterator[tuple[str, bool]]:
    """The special tokens in `text` and the text between them, and whether each part is one.

    One that isn't allowed ("all": all are) raises, with its place, `n_before` characters further.

    >>> list(split_special("a<|end|>b", ["<|end|>"], "all"))
    [('a', False), ('<|end|>', True), ('b', False)]
    """
    utf8_bytes(text)  # raises for half a character, with its place in the whole text
    one = [allowed_special] if isinstance(allowed_special, str) else allowed_special
    allowed = set(special_tokens if allowed_special == "all" else one)
    for unknown in allowed.difference(special_tokens):
        raise LessonsError(f"{unknown!r} is not a special token", where="allowed_special")
    start = 0
    for match in special_pattern(special_tokens).finditer(text):
        if match.group() not in allowed:
            what = f"the text contains the special token {match.group()!r}"
            remedy = f"Pass allowed_special=[{match.group()!r}], or use encode_ordinary."
            where = f"character {n_before + match.start()}"
            raise LessonsError(what, where=where, remedy=remedy)
        yield text[start : match.start()], False
        yield match.group(), True
        start = match.end()
    yield text[start:], False


def safe_blocks(
    pieces: Iterable[str], special_tokens: Sequence[str] = (), size: int = BLOCK
) -> Iterator[str]:
    """The joined `pieces` in blocks of about `size` characters, cut where `last_safe_cut` says.

    >>> list(safe_blocks(["one two", " three"], size=8))
    ['one two', ' three']
    """
    special = special_pattern(special_tokens)
    longest = max(map(len, special_tokens), default=0)
    held, wanted = "", size
    for part in (piece[i : i + size] for piece in pieces for i in range(0, len(piece), size)):
        held += part
        if len(held) < wanted:
            continue
        cut = last_safe_cut(held, special, longest)
        if cut == 0:
            wanted = 2 * len(held)  # text without a place to cut must not be searched each time
        else:
            yield held[:cut]
            held, wanted = held[cut:], size
    if held:
        yield held


def last_safe_cut(text: str, special: regex.Pattern, longest: int) -> int:
    """The last place of `text` where every pattern ends a pre-token; 0 when none is found.

    That is behind a word or number, and before a space; but not where a special token, of `longest`
    characters at most, is or could be cut.
    """
    ends = r"(?<=\p{L})(?=\P{L})|(?<=\p{N})(?=\P{N})|(?<=\S)(?=[^\S\r\n])"
    for match in regex.finditer(ends, text, flags=regex.REVERSE):
        cut = match.start()
        if cut + longest > len(text):
            continue
        found = (special.match(text, start) for start in range(max(cut - longest + 1, 0), cut))
        if not any(token and token.end() > cut for token in found):
            return cut
    return 0
