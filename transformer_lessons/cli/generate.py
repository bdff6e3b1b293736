"""`generate`: a trained model continues prompts."""

import codecs
import json
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import tyro

from transformer_lessons.cli import check_seed
from transformer_lessons.cli.models import LoadedModel, ModelOptions, open_model
from transformer_lessons.cli.prompts import read_prompts
from transformer_lessons.cli.sampling_options import SamplingOptions, check_vocabulary
from transformer_lessons.cli.speed import SpeedOptions, named_compiler_errors, prepare_step
from transformer_lessons.cli.writing import Writing, harmless, print_token_line
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.conversation import eos_token_ids
from transformer_lessons.generation.decoding import Step
from transformer_lessons.generation.generate import generate, stream_with_probabilities
from transformer_lessons.generation.sampling import Sampler

DEFAULT = Sampler(temperature=0.2)  # suits models as small as these


@dataclass(frozen=True)
class Generate(SpeedOptions, SamplingOptions, ModelOptions):
    """Let a trained model continue a prompt, or many at once.

    Without --preset and --temperature, the temperature is 0.2, which suits small models.
    """

    prompt: str | None = None
    """The text to continue."""
    prompt_file: Path | None = None
    """A file with the text to continue; its bytes need not be UTF-8. "-" is standard input."""
    prompts_file: Path | None = None
    """A file with a prompt a line, as it is or as a JSON string. "-" is standard input."""
    max_new_tokens: int = 200
    """How many tokens to write, at most."""
    n_samples: int = 1
    """How many texts to write for each prompt."""
    stop: tuple[str, ...] = ()
    """Strings at which a text ends."""
    seed: int = 0
    """The same seed writes the same text."""
    probabilities: bool = False
    """Show each token on a line of its own, with the probability the model gave it."""
    json: bool = False
    """A JSON object a line: prompt, text, tokens, and why it ended."""
    batch_size: int = 16
    """How many texts are written side by side. It changes the speed, not the texts."""


def run(arguments: Sequence[str]) -> int:
    """Generate to stdout; returns the exit code."""
    options = tyro.cli(Generate, args=arguments, prog="python -m transformer_lessons generate")
    sampler = options.sampler(DEFAULT)
    check_options(options)
    loaded = open_model(options)
    check_vocabulary(sampler, loaded.model.config.vocab_size)
    prompts = read_prompts(
        loaded.tokenizer, options.prompt, options.prompt_file, options.prompts_file
    )
    say_what_is_not_seen(prompts, loaded.model.config.context_length)
    if options.json or len(prompts) * options.n_samples > 1:
        write = partial(write_many, loaded, prompts, options, sampler)
    else:
        write = partial(write_one, loaded, prompts[0], options, sampler)
    with named_compiler_errors(options):
        write(prepare_step(loaded.model, options))
    return 0


def check_options(options: Generate) -> None:
    """Raise `LessonsError` for options that can't be, before a model is loaded."""
    sources = (options.prompt, options.prompt_file, options.prompts_file)
    if sum(source is not None for source in sources) != 1:
        remedy = 'For example --prompt "def ".'
        raise LessonsError("give one of --prompt, --prompt-file, --prompts-file", remedy=remedy)
    check_seed(options.seed)
    for name, least in (("max_new_tokens", 0), ("n_samples", 1), ("batch_size", 1)):
        if getattr(options, name) < least:
            where = f"--{name.replace('_', '-')}"
            what = f"{name} = {getattr(options, name)} is below {least}"
            raise LessonsError(what, where=where)
    if "" in options.stop:
        raise LessonsError("a stop string is empty", where="--stop", remedy="Give a character.")
    if options.probabilities and (options.json or options.n_samples > 1 or options.prompts_file):
        raise LessonsError("one text at a time", where="--probabilities")


def say_what_is_not_seen(prompts: Sequence[Sequence[int]], context_length: int) -> None:
    """A word on stderr if a prompt is longer than what the model looks at."""
    for number, prompt in enumerate(prompts, start=1):
        if len(prompt) > context_length:
            what = f"note: prompt {number} has {len(prompt):,} tokens"
            print(f"{what}; the model sees the last {context_length:,}", file=sys.stderr)


def write_one(
    loaded: LoadedModel, prompt: list[int], options: Generate, sampler: Sampler, step: Step
) -> None:
    """Write one text as it comes."""
    tokenizer, ends = loaded.tokenizer, eos_token_ids(loaded.tokenizer).values()
    steps = stream_with_probabilities(
        *(loaded.model, prompt, options.max_new_tokens, sampler, options.seed, ends, step)
    )
    before, rest = whole_characters(tokenizer.decode_bytes(prompt))
    writing = Writing(tokenizer, steps, ends, options.stop, rest)
    if options.probabilities:
        writing.on_token = partial(print_token_line, tokenizer)
        deque(writing, maxlen=0)
        return
    for text in chain([before], writing):
        print(harmless(text) if sys.stdout.isatty() else text, end="", flush=True)
    print()


def write_many(
    loaded: LoadedModel,
    prompts: list[list[int]],
    options: Generate,
    sampler: Sampler,
    step: Step,
) -> None:
    """Write all texts, those of one batch together: JSON lines, or each below a heading."""
    tokenizer, n_samples = loaded.tokenizer, options.n_samples
    ends = eos_token_ids(tokenizer).values()
    rows = [prompt for prompt in prompts for _ in range(n_samples)]
    for first in range(0, len(rows), options.batch_size):
        batch, seed = rows[first : first + options.batch_size], options.seed + first
        written = generate(
            *(loaded.model, batch, options.max_new_tokens, sampler, seed, ends), step=step
        )
        for number, (prompt, tokens) in enumerate(zip(batch, written, strict=True), start=first):
            before, rest = whole_characters(tokenizer.decode_bytes(prompt))
            writing = Writing(
                tokenizer, ((token, 0.0) for token in tokens), ends, options.stop, rest
            )
            deque(writing, maxlen=0)
            if options.json:
                print(as_json(before, writing), flush=True)
                continue
            sample = f", sample {number % n_samples + 1}" if n_samples > 1 else ""
            text = before + writing.text
            print(f"==> prompt {number // n_samples + 1}{sample} <==")
            print(harmless(text) if sys.stdout.isatty() else text, flush=True)


def as_json(prompt: str, writing: Writing) -> str:
    """One line; characters beyond ASCII are escaped, so that no terminal obeys any."""
    document = {
        "prompt": prompt,
        "text": writing.text,
        "tokens": writing.tokens,
        "finish_reason": writing.finish,
    }
    return json.dumps(document)


def whole_characters(data: bytes) -> tuple[str, bytes]:
    """The text of `data`, and the bytes at its end of a character that is not complete.

    >>> whole_characters(b"n\\xc3")
    ('n', b'\\xc3')
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return decoder.decode(data), decoder.getstate()[0]
