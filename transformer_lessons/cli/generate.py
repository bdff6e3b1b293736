"""`generate`: a trained model continues prompts."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len

from transformer_lessons.cli import models
from transformer_lessons.cli.display import bar, sanitize, visible
from transformer_lessons.config import Count
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import (
    eos_token_ids,
    generate,
    known_tokens,
    stream_batch,
)
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.generation.text_stream import TextStreamer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tokenizer import Tokenizer

BATCH_SIZE = 16  # texts that are written side by side


@dataclass(frozen=True)
class Generate(models.ModelOptions):
    """Let a trained model continue a prompt, or many at once.

    Without --preset and --temperature, the temperature is 0.2, which suits small models.
    """

    prompt: str | None = None
    """The text to continue."""
    prompts_file: Path | None = None
    """A file with a prompt a line, as it is or as a JSON string. "-" is standard input."""
    n_samples: Count = 1
    """How many texts to write for each prompt."""
    probabilities: bool = False
    """Show each token on a line of its own, with the probability the model gave it."""
    json: bool = False
    """A JSON object a line: prompt, text, tokens, and why it ended."""


def run(arguments: Sequence[str]) -> int:
    """Generate to stdout; returns the exit code."""
    options = models.parse_options(Generate, arguments, Sampler(temperature=0.2))
    are_many = options.n_samples > 1 or options.prompts_file is not None
    if (options.prompt is None) == (options.prompts_file is None):
        remedy = 'For example --prompt "def ".'
        raise LessonsError("give either --prompt or --prompts-file", remedy=remedy)
    if options.probabilities and (are_many or options.json or options.stop or options.speculate):
        what = "one text at a time, without --json, --stop and --speculate"
        raise LessonsError(what, where="--probabilities")
    texts = read_prompts(options)
    loaded = models.open_model(options)
    prompts = [(text, encode(loaded.tokenizer, text, where)) for where, text in texts.items()]
    tell_lengths(loaded, [len(tokens) for _, tokens in prompts], options.max_new_tokens)
    with models.named_compiler_errors():
        if options.json or len(prompts) * options.n_samples > 1:
            write_many(loaded, prompts, options)
        else:
            write_one(loaded, *prompts[0], options)
    if loaded.speculation:
        print(f"[{loaded.speculation.report()}]", file=sys.stderr)
    return 0


def encode(tokenizer: Tokenizer, prompt: str, where: str) -> list[int]:
    """The tokens of a prompt; bytes that are not UTF-8 are tokens too, for a model of bytes."""
    if isinstance(tokenizer, ByteTokenizer):
        return list(prompt.encode("utf-8", errors="surrogateescape"))
    try:
        return tokenizer.encode_ordinary(prompt)
    except LessonsError as error:
        raise LessonsError("not UTF-8 text", where=where, remedy=error.remedy) from None


def tell_lengths(loaded: models.LoadedModel, lengths: Sequence[int], n_new: int) -> None:
    """Say which prompts are cut, and whether a text goes beyond what the model was trained on."""
    config, trained = loaded.model.config, loaded.trained_length
    for number, n_tokens in enumerate(lengths, start=1):
        if n_tokens > config.context_length:
            what = f"note: prompt {number} has {n_tokens:,} tokens"
            print(f"{what}; the model sees the last {config.context_length:,}", file=sys.stderr)
    if trained is not None and trained < min(max(lengths) + n_new, config.context_length):
        beyond = "positions beyond were never trained (lesson 5)"
        if config.position != "learned":
            beyond = "beyond, it gets worse (lesson 6)"
        print(f"note: trained on {trained:,} tokens at a time; {beyond}", file=sys.stderr)


def write_one(
    loaded: models.LoadedModel, prompt: str, tokens: Sequence[int], options: Generate
) -> None:
    """Write one text as it comes."""
    tokenizer, eos = loaded.tokenizer, eos_token_ids(loaded.tokenizer)
    known = known_tokens(tokenizer, loaded.model.config.vocab_size)
    choices = options.max_new_tokens, options.sampler, options.seed, eos, 1, loaded.forward_fn
    steps = stream_batch(loaded.model, [tokens], *choices, allowed=known)
    if options.probabilities:
        for _, token, logits in steps:
            probability, columns = logits.softmax(-1)[token].item(), shutil.get_terminal_size()[0]
            print(token_line(tokenizer, token, probability, columns), flush=True)
        return
    written: Iterator[int] = (token for _, token, _ in steps)
    if loaded.speculation:
        written = loaded.speculation(loaded.model, tokens, *choices[:3], eos, allowed=known)
    print(shown(prompt), end="", flush=True)
    for piece in TextStreamer(tokenizer, written, eos, options.stop):
        print(shown(piece), end="", flush=True)
    print()


def write_many(
    loaded: models.LoadedModel, prompts: Sequence[tuple[str, list[int]]], options: Generate
) -> None:
    """Write all texts, those of one batch together: JSON lines, or each below a heading."""
    eos = eos_token_ids(loaded.tokenizer)
    known = known_tokens(loaded.tokenizer, loaded.model.config.vocab_size)
    n, n_samples, sampler = options.max_new_tokens, options.n_samples, options.sampler
    rows = [prompt for prompt in prompts for _ in range(n_samples)]
    for first in range(0, len(rows), BATCH_SIZE):
        batch = rows[first : first + BATCH_SIZE]
        choices = n, sampler, options.seed + first, eos, 1, loaded.forward_fn
        if speculation := loaded.speculation:  # one by one: that is where it saves time
            seeds = range(options.seed + first, options.seed + first + len(batch))
            made = [
                list(speculation(loaded.model, ids, n, sampler, seed, eos, allowed=known))
                for (_, ids), seed in zip(batch, seeds, strict=True)
            ]
        else:
            made = generate(loaded.model, [ids for _, ids in batch], *choices, allowed=known)
        for number, ((prompt, _), tokens) in enumerate(zip(batch, made, strict=True), start=first):
            streamer = TextStreamer(loaded.tokenizer, tokens, eos, options.stop)
            text = "".join(streamer)
            if options.json:  # characters beyond ASCII are escaped, so no terminal obeys any
                facts = {"prompt": prompt, "text": text, "tokens": streamer.read_tokens}
                print(json.dumps(facts | {"finish_reason": streamer.finish_reason}), flush=True)
                continue
            sample = f", sample {number % n_samples + 1}" if n_samples > 1 else ""
            print(f"==> prompt {number // n_samples + 1}{sample} <==")
            print(shown(prompt + text), flush=True)


def shown(text: str) -> str:
    """`text` as it is, but for what a terminal would obey."""
    return sanitize(text) if sys.stdout.isatty() else text


def token_line(tokenizer: Tokenizer, token: int, probability: float, width: int = 80) -> str:
    """A token on a line of its own, with its probability as a bar and in percent.

    >>> from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
    >>> print(token_line(ByteTokenizer(), 97, 0.25))
         'a'    97  █████░░░░░░░░░░░░░░░  25.00%
    """
    name = repr(visible(tokenizer.decode_bytes([token])))
    start, end = f"{' ' * (12 - cell_len(name))}{name} {token:>5}", f"{probability:7.2%}"
    room = width - cell_len(start) - len(end) - 4  # one column stays free: a full line may wrap
    return f"{start}  {bar(probability, min(max(room, 0), 20))} {end}"


def read_prompts(options: Generate) -> dict[str, str]:
    """The prompts, with their places: the option, or the lines of a file. An empty one raises."""
    # The bytes as they were typed, also where the locale takes them for something else.
    data, path = os.fsencode(options.prompt or ""), options.prompts_file
    if path is not None:
        try:
            data = path.read_bytes() if path != Path("-") else sys.stdin.buffer.read()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            what = f"can't read it: {getattr(error, 'strerror', None) or error}"
            raise LessonsError(what, where=str(path)) from None
    text = data.decode("utf-8", errors="surrogateescape")
    lines = text.removesuffix("\n").split("\n") if path else [text]
    prompts = {}
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}" if path else "--prompt"
        prompts[where] = read_line(line.removesuffix("\r"), where) if path else line
        if not prompts[where]:
            raise LessonsError("the prompt is empty", where=where, remedy="Give some text.")
    return prompts


def read_line(line: str, where: str) -> str:
    """A line of a file of prompts: as it is, or, in quotation marks, what a JSON string says."""
    try:
        prompt = json.loads(line) if line.startswith('"') else line
        prompt.encode("utf-8", errors="surrogateescape")  # half a surrogate pair is no text
        return prompt
    except ValueError:
        remedy = 'A prompt that begins with a quotation mark is written "\\"like this".'
        raise LessonsError("not a JSON string", where=where, remedy=remedy) from None
