"""`generate`: a trained model continues prompts."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.cells import cell_len

from transformer_lessons.cli import models
from transformer_lessons.cli.display import bar, sanitize, visible
from transformer_lessons.cli.options.models import Generate
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation import Sampler, TextStreamer, eos_token_ids
from transformer_lessons.generation.generate import generate, stream_batch
from transformer_lessons.tokenizers import ByteTokenizer, Tokenizer

Prompt = tuple[str, list[int]]  # a text and its tokens
BATCH_SIZE = 16  # texts that are written side by side


def run(options: Generate) -> int:
    """Generate to stdout; returns the exit code."""
    sampler = models.sampler_of(options, Sampler(temperature=0.2))
    texts = read_prompts(options)
    loaded = models.open_model(options, sampler)
    prompts = [(text, encode(loaded.tokenizer, text, where)) for where, text in texts.items()]
    tell_lengths(loaded, [len(tokens) for _, tokens in prompts], options.max_new_tokens)
    with models.named_compiler_errors():
        (write_probabilities if options.probabilities else write)(loaded, prompts, options)
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


def write(loaded: models.LoadedModel, prompts: Sequence[Prompt], options: Generate) -> None:
    """Write all texts: each as it comes, below a heading if there are several, or as JSON lines."""
    rows = [prompt for prompt in prompts for _ in range(options.n_samples)]
    for number, (prompt, pieces) in enumerate(continued(loaded, rows, options)):
        if options.json:  # characters beyond ASCII are escaped, so no terminal obeys any
            facts = {"prompt": prompt, "text": "".join(pieces), "tokens": pieces.read_tokens}
            print(json.dumps(facts | {"finish_reason": pieces.finish_reason}), flush=True)
            continue
        if len(rows) > 1:
            of_prompt, sample = divmod(number, options.n_samples)
            heading = f", sample {sample + 1}" if options.n_samples > 1 else ""
            print(f"==> prompt {of_prompt + 1}{heading} <==")
        print(shown(prompt), end="", flush=True)
        for piece in pieces:
            print(shown(piece), end="", flush=True)
        print(flush=True)


def continued(
    loaded: models.LoadedModel, rows: Sequence[Prompt], options: Generate
) -> Iterator[tuple[str, TextStreamer]]:
    """Each prompt, and what follows it; a single text piece by piece, as it is written."""
    known, eos = loaded.known_tokens, eos_token_ids(loaded.tokenizer)
    size = 1 if loaded.speculation else BATCH_SIZE  # one by one is where guessing saves time
    for first in range(0, len(rows), size):
        batch = [ids for _, ids in rows[first : first + size]]
        choices = options.max_new_tokens, loaded.sampler, options.seed + first, eos
        if len(batch) == 1:
            made = iter([loaded.stream_fn(loaded.model, batch[0], *choices, allowed=known)])
        else:
            more = 1, loaded.forward_fn, known
            made = map(iter, generate(loaded.model, batch, *choices, *more))
        for (prompt, _), tokens in zip(rows[first : first + size], made, strict=True):
            yield prompt, TextStreamer(loaded.tokenizer, tokens, eos, options.stop)


def write_probabilities(
    loaded: models.LoadedModel, prompts: Sequence[Prompt], options: Generate
) -> None:
    """Write one text, a token a line, each with the probability that the model gave it."""
    choices = options.max_new_tokens, loaded.sampler, options.seed, eos_token_ids(loaded.tokenizer)
    more = 1, loaded.forward_fn, loaded.known_tokens
    for _, token, logits in stream_batch(loaded.model, [prompts[0][1]], *choices, *more):
        probability, columns = logits.softmax(-1)[token].item(), shutil.get_terminal_size()[0]
        print(token_line(loaded.tokenizer, token, probability, columns), flush=True)


def shown(text: str) -> str:
    """`text` as it is, but for what a terminal would obey."""
    return sanitize(text) if sys.stdout.isatty() else text


def token_line(tokenizer: Tokenizer, token: int, probability: float, width: int = 80) -> str:
    """A token on a line of its own, with its probability as a bar and in percent.

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
    prompts = {"--prompt": text}
    if path is not None:
        lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
        places = [f"{path}, line {number}" for number in range(1, len(lines) + 1)]
        prompts = dict(zip(places, map(read_line, lines, places), strict=True))
    for where, prompt in prompts.items():
        if not prompt:
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
