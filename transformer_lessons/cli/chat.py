"""`chat`: talk with a model in the terminal."""

import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from io import TextIOWrapper
from typing import Any

from transformer_lessons.cli import PlainConsole, models
from transformer_lessons.cli.display import sanitize
from transformer_lessons.cli.options import check
from transformer_lessons.cli.options.models import LONGEST, SAMPLING, Chat, ModelOptions
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation import SAMPLERS, Conversation
from transformer_lessons.weights.lora import FACTS, load_lora, remove_lora
from transformer_lessons.weights.shipped import SHIPPED

COMMANDS = {
    "help": "show this",
    "set NAME VALUE": "change a setting: set temperature 0.7",
    "reset": "forget the conversation",
    "quit": "end the program, as Ctrl-D does",
}
SETTINGS = {
    "preset": f"those that choose a token, all at once: {', '.join(SAMPLERS)}",
    **SAMPLING,
    "max_new_tokens": f"the length of an answer; from 0 to {LONGEST:,}",
    "seed": "of the next answer; each one after it adds 1; 0 or more",
    "persona": "adapters: pirate or terse, for smollm2-135m; a folder of them; or none",
}


def run(options: Chat) -> int:
    """Converse until the user quits; returns the exit code."""
    loaded = models.open_model(options, models.sampler_of(options, SAMPLERS["balanced"]))
    given = loaded.model, loaded.tokenizer, loaded.template, options.system, loaded.sampler
    more = options.max_new_tokens, options.stop, options.seed, loaded.stream_fn
    conversation = Conversation(*given, *more)
    put_on(conversation, options.persona)
    kind = "answers" if loaded.template else "continues text; it was not trained to answer"
    sees = f"sees {loaded.model.config.context_length:,} tokens at once"
    print(f"{loaded.name}: {loaded.n_parameters:,} parameters. It {sees}, and {kind}.")
    print("Type text, or help. Ctrl-C stops an answer, Ctrl-D quits.")
    if sys.stdin is None:
        raise LessonsError("there is no standard input to read from")
    if isinstance(sys.stdin, TextIOWrapper):
        # Bytes that are not UTF-8 come through, so that they can be refused by name.
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    with models.named_compiler_errors():
        converse(conversation)
    return 0


def read_line(prompt: str) -> str:
    """The next line, typed or from a pipe; at the end of the input it raises EOFError."""
    line = input(prompt)
    if not sys.stdin.isatty():
        print(sanitize(line))  # shown as if it had been typed
    return line


def converse(conversation: Conversation, read_line: Callable[[str], str] = read_line) -> None:
    """Take turns until the user quits, by command or at the end of the input (Ctrl-D)."""
    in_terminal = sys.stdin.isatty()
    if in_terminal:
        with suppress(ImportError):  # Windows has none, and edits lines by itself
            import readline  # noqa: F401, from now on `input` edits, and has a history
    while True:
        try:
            line = read_line("> ")
            if (words := read_command(line)) is not None:
                run_command(conversation, *words)
                continue
            while line.endswith("\\"):
                line = f"{line[:-1]}\n{read_line('| ')}"
            if line or (conversation.messages and conversation.template is None):
                answer(conversation, line)
        except EOFError:
            return
        except LessonsError as error:
            if not in_terminal:
                raise
            print(f"error: {sanitize(str(error))}")
        except KeyboardInterrupt:
            if not in_terminal:
                raise
            print("\nCtrl-D quits.")


def read_command(line: str) -> list[str] | None:
    """The words of the command in `line`, or None if it is text for the model.

    A command is written as in `COMMANDS`, with or without a slash before it. A line that begins
    with a space is always text.
    """
    words = line.removeprefix("/").split()
    usages = [usage.split() for usage in COMMANDS]
    is_exact = any(words[:1] == usage[:1] and len(words) == len(usage) for usage in usages)
    return words if is_exact and not line[0].isspace() else None


def run_command(conversation: Conversation, name: str, *words: str) -> None:
    """Do what a command says."""
    if name == "quit":
        raise EOFError
    if name == "set":
        change_setting(conversation, *words)
    elif name == "reset":
        conversation.messages = []
        print("The conversation begins anew.")
    else:
        now = vars(conversation) | vars(conversation.sampler)
        now |= {"top_k": conversation.sampler.top_k or "off"}
        PlainConsole().print_rows("", COMMANDS)
        print("A space before a line makes it text, whatever it says.")
        print("A line that ends with \\ goes on in the next one.")
        if conversation.template is None:
            print("An empty line lets the model go on. Your text begins on a new line.")
        rows = {f"{name} {now.get(name, '')}": what for name, what in SETTINGS.items()}
        PlainConsole().print_rows("", rows)


def change_setting(conversation: Conversation, name: str, text: str) -> None:
    """Change the setting `name` as `text` says; what can't be raises `LessonsError`."""
    name = name.replace("-", "_")
    value: Any = read_value(name, text)
    if name in ("max_new_tokens", "seed"):
        check(replace(ModelOptions(), **{name: value}))
        setattr(conversation, name, value)
    elif name == "persona":
        put_on(conversation, value)
    else:
        sampler = value if name == "preset" else replace(conversation.sampler, **{name: value})
        models.check_sampler(sampler, conversation.model)
        conversation.sampler = sampler
    print(f"{name} = {text}")


def read_value(name: str, text: str) -> Any:
    """`text` as a value of the setting `name`."""
    if name not in SETTINGS:
        raise LessonsError(f"no setting {name!r}", remedy=f"Known: {', '.join(SETTINGS)}.")
    if name == "preset":
        return models.named_sampler(text)
    if name == "persona":
        return text
    if (name, text) == ("top_k", "off"):
        return None
    is_whole = name in ("top_k", "max_new_tokens", "seed")
    try:
        return int(text) if is_whole else float(text)
    except ValueError:
        what = f"{name} = {text!r} is not {'a whole number' if is_whole else 'a number'}"
        raise LessonsError(what, remedy=f"{SETTINGS[name]}.") from None


def put_on(conversation: Conversation, persona: str) -> None:
    """Let the base model go on with the adapters of a persona, or alone; its weights stay."""
    model = remove_lora(conversation.model)
    if persona != "none":
        shipped = SHIPPED.parent / "personas" / persona
        model = load_lora(model, shipped if (shipped / FACTS).exists() else persona)
    conversation.model = model


def answer(conversation: Conversation, text: str) -> None:
    """Let the model write; Ctrl-C ends the answer, not the program. Then say what it cost."""
    times = [time.perf_counter()]
    # Closed also when it was interrupted: then the conversation keeps what was written.
    with closing(conversation.stream(text)) as pieces, suppress(KeyboardInterrupt):
        for piece in pieces:
            times.append(time.perf_counter())
            print(sanitize(piece), end="", flush=True)
    written = conversation.answer
    print("" if written.text.endswith("\n") else "\n", end="")
    facts = f"read {len(conversation.prompt):,} tokens"
    if conversation.n_left_out:
        facts += f" without the {conversation.n_left_out:,} oldest"
    if len(times) > 2:
        rate = (len(written.read_tokens) - 1) / (times[-1] - times[1])
        facts += f" in {times[1] - times[0]:.2f} s"
        facts += f", wrote {len(written.read_tokens):,} at {rate:,.0f} tokens/s"
    if isinstance(conversation.stream_fn, models.Speculation):
        facts += f"; {conversation.stream_fn.report()}"
    reason = (written.finish_reason or "stopped").replace("_", " ")
    PlainConsole().print(f"[{facts}; {reason}]", style="dim")
