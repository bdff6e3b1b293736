"""The text that is measured on: Python sources that every reader of the book has installed."""

from pathlib import Path


def python_text(n_bytes: int, accented: bool = False) -> str:
    """The first `n_bytes` of the standard library's sources, then of torch's, as one text.

    `accented` writes each e as é, so that there is hardly a line of ASCII only.
    """
    from transformer_lessons.support.corpus import python_sources

    parts, size = [], 0
    for document in python_sources():
        parts.append(document.text)
        size += len(document.text.encode())
    for path in torch_sources() if size < n_bytes else []:
        if size >= n_bytes:
            break
        parts.append(path.read_text(encoding="utf-8"))
        size += path.stat().st_size
    text = "\n\n".join(parts)
    text = text.replace("e", "é") if accented else text
    cut = text.encode()[:n_bytes]
    if len(cut) < n_bytes:
        raise ValueError(f"there are only {len(cut):,} bytes of Python sources here")
    return cut.decode(errors="ignore")  # the last character may have been cut


def torch_sources() -> list[Path]:
    """The Python files of the installed torch, in order of their paths."""
    import torch

    return sorted(Path(torch.__file__).parent.rglob("*.py"))


def hostile_text(kind: str, n: int) -> str:
    """`n` characters that are hard on a tokenizer: one letter, spaces and an x, emoji, random."""
    import random

    dice = random.Random(0)
    makers = {
        "one letter": lambda: "a" * n,
        "spaces, then x": lambda: " " * (n - 1) + "x",
        "one emoji": lambda: "😀" * n,
        "one digit": lambda: "7" * n,
        "random letters": lambda: "".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=n)),
        "random characters": lambda: "".join(map(chr, dice.choices(range(32, 0xD7FF), k=n))),
    }
    return makers[kind]()


HOSTILE = (
    "one letter",
    "spaces, then x",
    "one emoji",
    "one digit",
    "random letters",
    "random characters",
)
