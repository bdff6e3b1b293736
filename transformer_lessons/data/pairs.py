"""Pairs: an input, and what to answer. Lesson 2.

A pair file has one pair a line, `base64(input) TAB base64(output)` (RFC 4648, section 4).
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import decode_utf8, replace_file

Pair = tuple[bytes, bytes]


def write_pairs(path: Path | str, pairs: Iterable[Pair]) -> None:
    """Write (input, output) pairs to `path`, one a line; `read_pairs` reads them back."""
    lines = [b"%b\t%b\n" % tuple(map(base64.b64encode, pair)) for pair in pairs]
    replace_file(Path(path), b"".join(lines))


def read_pairs(path: Path | str) -> list[Pair]:
    """The pairs of a file; a line that is no pair raises `LessonsError` with file and line."""
    try:
        lines = decode_utf8(Path(path).read_bytes(), where=str(path)).splitlines()
    except OSError as error:
        raise LessonsError(f"can't read the pairs: {error.strerror}", where=str(path)) from None
    if not lines:
        raise LessonsError("no pairs in the file", where=str(path))
    return [_parse_pair(line, where=f"{path}, line {i}") for i, line in enumerate(lines, start=1)]


def pair_example(pair: Pair, where: str = "pair") -> tuple[Tensor, Tensor]:
    """A pair as model input and targets (T,), each one shorter than input + output together.

    Those targets that would ask the model to predict its own input are `IGNORE`.

    >>> pair_example((b"ab", b"cd"))
    (tensor([97, 98, 99]), tensor([-100,   99,  100]))
    """
    source, answer = pair
    if not answer or len(source + answer) < 2:
        remedy = "Give at least one byte of output, and one byte before it."
        raise LessonsError("nothing to predict in this pair", where=where, remedy=remedy)
    tokens = torch.tensor(list(source + answer))
    inputs, targets = tokens[:-1], tokens[1:].clone()
    targets[: max(len(source) - 1, 0)] = IGNORE
    return inputs, targets


def crop_example(
    inputs: Tensor, targets: Tensor, context_length: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A random window of at most `context_length` tokens with at least one real target in it."""
    if len(inputs) <= context_length:
        return inputs, targets
    first_real = int((targets != IGNORE).nonzero()[0])
    earliest, end = max(0, first_real - context_length + 1), len(inputs) - context_length + 1
    start = int(torch.randint(earliest, end, (), generator=generator))
    return inputs[start : start + context_length], targets[start : start + context_length]


def collate(examples: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Examples of different lengths as one batch: (B, T) inputs and targets, padded on the right.

    Padding is never learned (its targets are `IGNORE`) and, with a causal mask, never seen.
    """
    pad = torch.nn.utils.rnn.pad_sequence
    inputs, targets = map(list, zip(*examples, strict=True))
    return pad(inputs, batch_first=True), pad(targets, batch_first=True, padding_value=IGNORE)


def pair_batches(
    pairs: Sequence[Pair], context_length: int, batch_size: int, seed: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of pairs, in a new random order each time through; the same for one seed."""
    if not pairs:
        raise LessonsError("no pairs to make batches of", remedy="Give at least one pair.")
    generator = torch.Generator().manual_seed(seed)
    examples = [pair_example(pair) for pair in pairs]
    while True:
        for chosen in torch.randperm(len(examples), generator=generator).split(batch_size):
            some = [examples[i] for i in chosen]
            yield collate([crop_example(x, y, context_length, generator) for x, y in some])


def _parse_pair(line: str, where: str) -> Pair:
    fields, remedy = line.split("\t"), "A line is base64(input) TAB base64(output)."
    if len(fields) != 2:
        what = f"{len(fields)} tab-separated fields instead of 2"
        raise LessonsError(what, where=where, remedy=remedy)
    try:
        source, answer = (base64.b64decode(field, validate=True) for field in fields)
    except ValueError as error:
        raise LessonsError(f"not base64: {error}", where=where, remedy=remedy) from None
    pair_example((source, answer), where)  # raises if there is nothing to learn from it
    return source, answer
