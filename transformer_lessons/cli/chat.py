"""`chat`: talk with a model in the terminal."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from statistics import median

import tyro

from transformer_lessons.cli import PlainConsole
from transformer_lessons.cli.chat_commands import Session, read_command
from transformer_lessons.cli.chat_settings import Settings
from transformer_lessons.cli.lines import line_reader
from transformer_lessons.cli.models import LoadedModel, ModelOptions, open_model
from transformer_lessons.cli.sampling_options import SamplingOptions, check_vocabulary
from transformer_lessons.cli.speed import SpeedOptions, named_compiler_errors, prepare_step
from transformer_lessons.cli.writing import Writing, harmless, print_token_line
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.conversation import Conversation, Prompt, eos_token_ids
from transformer_lessons.generation.generate import stream_with_probabilities
from transformer_lessons.generation.sampling import SAMPLERS
from transformer_lessons.model.accounting import count_parameters

REASONS = {
    "length": "the longest allowed",
    "end_of_text": "end of text",
    "stop_string": "stop string",
    None: "stopped",
}


@dataclass(frozen=True)
class Chat(SpeedOptions, SamplingOptions, ModelOptions):
    """Talk with a model. It starts with the preset balanced; type help to see what else there is.

    Standard input need not be a terminal: then each line is a turn, and bad input ends the program.
    """

    system: str | None = None
    """What the model is told before the conversation, if it was trained to converse."""
    max_new_tokens: int = 200
    """The length of an answer, at most."""
    stop: tuple[str, ...] = ()
    """Strings at which an answer ends."""
    seed: int = 0
    """Of the first answer; each one after it adds 1."""
    bars: bool = False
    """Show each token on a line of its own, with its probability."""


def run(arguments: Sequence[str]) -> int:
    """Converse until the user quits; returns the exit code."""
    options = tyro.cli(Chat, args=arguments, prog="python -m transformer_lessons chat")
    sampler = options.sampler(SAMPLERS["balanced"])
    settings = Settings(sampler, options.max_new_tokens, options.seed, options.bars)
    if "" in options.stop:
        raise LessonsError("a stop string is empty", where="--stop", remedy="Give a character.")
    loaded = open_model(options)
    check_vocabulary(sampler, loaded.model.config.vocab_size)
    context_length = loaded.model.config.context_length
    conversation = Conversation(loaded.tokenizer, context_length, loaded.render, options.system)
    stop_strings = options.stop
    if loaded.render is not None:  # nor may an answer spell out what ends one
        stop_strings += tuple(eos_token_ids(loaded.tokenizer))
    session = Session(loaded, conversation, settings, PlainConsole(), stop_strings)
    introduce(loaded, session)
    if options.compile:
        session.console.print("It compiles before the first answer: a minute or two, if new here.")
    in_terminal = sys.stdin is not None and sys.stdin.isatty()
    with named_compiler_errors(options):
        session.step = prepare_step(loaded.model, options)
        converse(session, line_reader(in_terminal), in_terminal)
    return 0


def introduce(loaded: LoadedModel, session: Session) -> None:
    """What the user should know before the first line."""
    kind = "It answers." if loaded.render else "It continues text; it was not trained to answer."
    n_parameters = count_parameters(loaded.model)
    context = f"it sees {loaded.model.config.context_length:,} tokens at once"
    session.console.print(f"{loaded.name}: {n_parameters:,} parameters, {context}. {kind}")
    session.console.print("Type text, or help. Ctrl-C stops an answer, Ctrl-D quits.")


def converse(session: Session, read_line: Callable[[str], str], in_terminal: bool) -> None:
    """Take turns until the user quits: by command, at the end of input, or with Ctrl-C twice."""
    interrupted = False
    while True:
        try:
            take_turn(session, read_line)
            interrupted = False
        except EOFError:
            return
        except LessonsError as error:
            if not in_terminal:
                raise
            session.console.print(f"error: {harmless(str(error))}")
        except KeyboardInterrupt:
            if interrupted or not in_terminal:
                raise
            interrupted = True
            session.console.print("\nCtrl-C again, or Ctrl-D, quits.")


def take_turn(session: Session, read_line: Callable[[str], str]) -> None:
    """Read a line, and do what it says or let the model answer it."""
    line = read_line("> ")
    command = read_command(line)
    if command is not None:
        command[0].run(session, *command[1])
        return
    while line.endswith("\\"):
        line = f"{line[:-1]}\n{read_line('| ')}"
    conversation = session.conversation
    if line:
        conversation.say(line)
    elif session.loaded.render is not None or not conversation.turns:
        return  # nothing to answer, or to go on with
    try:
        answer(session)
    except LessonsError:
        if line:
            conversation.undo()
        raise


def answer(session: Session) -> None:
    """Let the model write, and remember what it wrote, also if Ctrl-C ends it."""
    settings, tokenizer = session.settings, session.loaded.tokenizer
    prompt = session.conversation.prompt(settings.max_new_tokens)
    session.n_unseen = prompt.n_turns_left_out
    ends, times = eos_token_ids(tokenizer).values(), [time.perf_counter()]
    steps = stream_with_probabilities(
        *(session.loaded.model, prompt.tokens, settings.max_new_tokens, settings.sampler),
        *(settings.seed, ends, session.step),
    )
    writing = Writing(tokenizer, with_times(steps, times), ends, session.stop_strings)
    if settings.bars:
        writing.on_token = partial(print_token_line, tokenizer)
    session.settings = replace(settings, seed=(settings.seed + 1) % 2**63)
    try:
        for piece in writing:
            if not settings.bars:
                print(harmless(piece), end="", flush=True)
    except KeyboardInterrupt:
        pass  # the answer is over, the program is not
    shown = harmless(writing.text) if settings.bars else ""
    print(shown, end="" if writing.text.endswith("\n") else "\n", flush=True)
    session.conversation.answer(writing.text)
    session.console.print(f"[{facts(prompt, writing, times)}]", style="dim")


def with_times(
    steps: Iterable[tuple[int, float]], times: list[float]
) -> Iterator[tuple[int, float]]:
    """The same steps; the moment when each was there is added to `times`."""
    for step in steps:
        times.append(time.perf_counter())
        yield step


def facts(prompt: Prompt, writing: Writing, times: Sequence[float]) -> str:
    """What an answer cost, what the model was not shown, and why the answer ended."""
    read = f"read {len(prompt.tokens):,} tokens"
    if prompt.n_turns_left_out:
        read += f" without the {prompt.n_turns_left_out} oldest turns"
    if prompt.n_tokens_left_out:
        read += f" without the first {prompt.n_tokens_left_out:,} of the oldest turn"
    if len(times) == 1:
        return f"{read}; stopped"
    wrote = f"wrote {len(writing.tokens):,}"
    if len(times) > 2:  # the median, because compiling may fall into one of the steps
        seconds = median(after - before for before, after in pairwise(times[1:]))
        wrote += f" at {1 / seconds:,.0f} tokens/s"
    return f"{read} in {times[1] - times[0]:.2f} s, {wrote}; {REASONS[writing.finish]}"
