"""Training data as pairs: what the model is given, and what it should answer. Lesson 2.

A pair file has one pair a line, `base64(input) TAB base64(output)` (RFC 4648, section 4).
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.errors import LessonsError

Pair = tuple[bytes, bytes]


def write_pairs(path: Path | str, pairs: Iterable[Pair]) -> None:
    """Write (input, output) pairs to `path`, one a line; `read_pairs` reads them back."""
    lines = [b"%b\t%b\n" % tuple(map(base64.b64encode, pair)) for pair in pairs]
    Path(path).write_bytes(b"".join(lines))


def read_pairs(path: Path | str, seed_pairs: Sequence[Pair] = ()) -> list[Pair]:
    """The pairs of a file, with `seed_pairs`, if any, put first.

    A line that is not a pair, or has nothing to learn, raises `LessonsError` with file and line.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise LessonsError(f"can't read the pairs: {error.strerror}", where=str(path)) from None
    pairs = [parse_pair(line, where=f"{path}, line {i}") for i, line in enumerate(lines, start=1)]
    if not pairs:
        raise LessonsError("no pairs in the file", where=str(path))
    return [*seed_pairs, *pairs]


def parse_pair(line: bytes, where: str) -> Pair:
    """One line of a pair file, decoded."""
    fields, remedy = line.split(b"\t"), "A line is base64(input) TAB base64(output)."
    if len(fields) != 2:
        what = f"{len(fields)} tab-separated fields instead of 2"
        raise LessonsError(what, where=where, remedy=remedy)
    decoded = []
    for name, field in zip(("input", "output"), fields, strict=True):
        try:
            decoded.append(base64.b64decode(field, validate=True))
        except binascii.Error as error:
            what = f"the {name} is not base64: {error}"
            raise LessonsError(what, where=where, remedy=remedy) from None
    _check_pair((decoded[0], decoded[1]), where)
    return decoded[0], decoded[1]


def pair_example(pair: Pair) -> tuple[Tensor, Tensor]:
    """A pair as model input and targets (T,), each one shorter than input + output together.

    Those targets that would ask the model to predict its own input are `IGNORE`.

    >>> pair_example((b"ab", b"cd"))
    (tensor([97, 98, 99]), tensor([-100,   99,  100]))
    """
    source, answer = pair
    _check_pair(pair, where=f"input of {len(source)} bytes, output of {len(answer)}")
    tokens = torch.tensor(list(source + answer))
    inputs, targets = tokens[:-1], tokens[1:].clone()
    targets[: max(len(source) - 1, 0)] = IGNORE
    return inputs, targets


def crop_example(
    inputs: Tensor, targets: Tensor, context_length: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A random window of at most `context_length` tokens with at least one real target in it."""
    n_tokens = len(inputs)
    if n_tokens <= context_length:
        return inputs, targets
    first_real = int((targets != IGNORE).nonzero()[0])
    earliest = max(0, first_real - context_length + 1)
    start = int(torch.randint(earliest, n_tokens - context_length + 1, (), generator=generator))
    return inputs[start : start + context_length], targets[start : start + context_length]


def collate(examples: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Examples of different lengths as one batch: (B, T) inputs and targets, padded on the right.

    Padding is never learned (its targets are `IGNORE`) and, with a causal mask, never seen.
    """
    pad = torch.nn.utils.rnn.pad_sequence
    inputs, targets = ([example[i] for example in examples] for i in (0, 1))
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


def _check_pair(pair: Pair, where: str) -> None:
    if not pair[1] or len(pair[0] + pair[1]) < 2:
        remedy = "Give at least one byte of output, and one byte before it."
        raise LessonsError("nothing to predict in this pair", where=where, remedy=remedy)
