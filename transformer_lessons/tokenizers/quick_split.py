"""`split_text`, quicker: what is ASCII only is left to Python's own regular expressions.

The module `regex` knows the letters and digits of all scripts. Python's own `re` doesn't; told that
there is only ASCII, it is more than twice as fast.
"""

import re

from transformer_lessons.tokenizers.blocks import safe_blocks
from transformer_lessons.tokenizers.pretokenizer import PATTERNS, split_pattern

STRETCH = 1 << 14  # characters: how much text is looked at, and split, at a time


def ascii_pattern(name: str) -> re.Pattern:
    r"""The split pattern called `name`, for text of ASCII characters only.

    >>> ascii_pattern("gpt4").findall("Hello world, it's 2024!")
    ['Hello', ' world', ',', ' it', "'s", ' ', '202', '4', '!']
    """
    pattern = PATTERNS[name].replace(r"\p{L}\p{N}]", "a-zA-Z0-9]")
    pattern = pattern.replace(r"\p{L}", "[a-zA-Z]").replace(r"\p{N}", "[0-9]")
    return re.compile(pattern, re.ASCII)


def find_chunks(text: str, pattern: str = "gpt4") -> list[str]:
    """The chunks of `text`, as `split_text` gives them.

    >>> find_chunks("né à Paris, 1871")
    ['né', ' à', ' Paris', ',', ' ', '187', '1']
    """
    every, plain = split_pattern(pattern), ascii_pattern(pattern)
    chunks: list[str] = []
    for stretch in safe_blocks([text], size=STRETCH):
        chunks += (plain if stretch.isascii() else every).findall(stretch)
    return chunks
