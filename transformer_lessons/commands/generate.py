"""`generate`: a trained model continues a prompt."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from transformer_lessons.commands import check_seed
from transformer_lessons.display import bar, visible
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import stream_with_probabilities
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.text.byte_tokenizer import ByteTokenizer, decode_stream
from transformer_lessons.text.tokenizer import Tokenizer
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.training.run_folder import check_tokenizer, run_tokenizer


@dataclass(frozen=True)
class Generate:
    """Let a trained model continue a prompt."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A run folder, or one of its checkpoints."""
    prompt: str | None = None
    """The text to continue."""
    prompt_file: Path | None = None
    """A file with the text to continue; its bytes need not be UTF-8."""
    max_new_tokens: int = 200
    """How many tokens to write."""
    temperature: float = 0.2
    """Below 1 surer, above 1 more varied. 0.1 to 0.3 suits models as small as these."""
    greedy: bool = False
    """Always take the most likely token; the temperature is then not used."""
    seed: int = 0
    """The same seed writes the same text."""
    probabilities: bool = False
    """Show each token on a line of its own, with the probability the model gave it."""


def run(arguments: Sequence[str]) -> int:
    """Generate to stdout; returns the exit code."""
    options = tyro.cli(Generate, args=arguments, prog="python -m transformer_lessons generate")
    sampler = Sampler(options.temperature, options.greedy)
    check_seed(options.seed)
    check_one_prompt(options)
    model = load_checkpoint(options.checkpoint).model
    tokenizer = run_tokenizer(options.checkpoint)
    check_tokenizer(model.config, tokenizer, str(options.checkpoint))
    prompt = read_prompt(options, tokenizer)
    steps = stream_with_probabilities(model, prompt, options.max_new_tokens, sampler, options.seed)
    if options.probabilities:
        for token, probability in steps:
            name = visible(tokenizer.decode_bytes([token]))
            print(f"{name!r:>6} {token:>4}  {bar(probability)} {probability:7.2%}")
        return 0
    for text in decode_stream(pieces(tokenizer, prompt, steps)):
        print(harmless(text) if sys.stdout.isatty() else text, end="", flush=True)
    print()
    return 0


def check_one_prompt(options: Generate) -> None:
    """Raise `LessonsError` unless exactly one of the two options for a prompt was given."""
    if (options.prompt is None) == (options.prompt_file is None):
        remedy = 'For example --prompt "ab".'
        raise LessonsError("give either --prompt or --prompt-file", remedy=remedy)


def read_prompt(options: Generate, tokenizer: Tokenizer) -> list[int]:
    """The tokens of the prompt. Special tokens in it are text."""
    if options.prompt is not None:
        # The bytes as they were typed, also where the locale says that they are not UTF-8.
        data, where = os.fsencode(options.prompt), "--prompt"
    else:
        where = str(options.prompt_file)
        try:
            data = options.prompt_file.read_bytes()
        except OSError as error:
            raise LessonsError(f"can't read it: {error.strerror}", where=where) from None
    if isinstance(tokenizer, ByteTokenizer):
        return tokenizer.encode(data)
    try:
        return tokenizer.encode_ordinary(data.decode("utf-8"))
    except UnicodeDecodeError:
        remedy = "This model's tokenizer reads text, not bytes."
        raise LessonsError("the prompt is not UTF-8", where=where, remedy=remedy) from None


def harmless(text: str) -> str:
    """Text without the control characters that a terminal would obey (bytes may say anything).

    >>> harmless("a\\x1b[2J\\n")
    'a·[2J\\n'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else "·" for c in text)


def pieces(
    tokenizer: Tokenizer, prompt: list[int], steps: Iterator[tuple[int, float]]
) -> Iterator[bytes]:
    """The prompt and then each new token, as bytes."""
    yield tokenizer.decode_bytes(prompt)
    for token, _ in steps:
        yield tokenizer.decode_bytes([token])
