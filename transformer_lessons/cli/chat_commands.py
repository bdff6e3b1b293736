"""The commands that can be typed during a chat."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from transformer_lessons.cli.chat_settings import SETTINGS, Settings
from transformer_lessons.cli.models import LoadedModel
from transformer_lessons.cli.sampling_options import named_sampler
from transformer_lessons.cli.writing import harmless
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.conversation import Conversation
from transformer_lessons.generation.decoding import Step, last_logits
from transformer_lessons.generation.sampling import SAMPLERS, Sampler
from transformer_lessons.support.files import replace_file


@dataclass
class Session:
    """All that a chat knows."""

    loaded: LoadedModel
    conversation: Conversation
    settings: Settings
    console: Console
    stop_strings: tuple[str, ...] = ()
    step: Step = last_logits
    n_unseen: int = 0  # how many turns, the oldest ones, did not fit into the last prompt


@dataclass(frozen=True)
class Command:
    """What is called with the words that follow it, as many as `usage` names."""

    run: Callable[..., None]
    usage: str
    what: str

    @property
    def n_words(self) -> int:
        """How many words follow the command's name."""
        return len(self.usage.split()) - 1


def read_command(line: str) -> tuple[Command, list[str]] | None:
    """The command in `line` with its arguments, or None if it is text for the model.

    A line that begins with a slash is a command, or a mistake. Without one it is a command if it
    begins with the name of one and has no more words than that takes: "set temperature 0.7" is one,
    "set the table for four" is text. A line that begins with a space is text, always.
    """
    is_marked = line.startswith("/")
    name, *words = line.removeprefix("/").split() or [""]
    if name == "set":
        words = " ".join(words).replace("=", " ").split()  # "set seed = 1" is meant too
    command = COMMANDS.get(name)
    if not is_marked and (line[:1].isspace() or command is None or len(words) > command.n_words):
        return None
    if command is None:
        remedy = "Type help. A line that begins with a space is text for the model."
        raise LessonsError(f"no command /{name}", remedy=remedy)
    if len(words) != command.n_words:
        remedy = "A line that begins with a space is text for the model."
        raise LessonsError(f"the command is: {command.usage}", remedy=remedy)
    return command, words


def two_columns() -> Table:
    """A table whose first column stays whole in a narrow terminal, for it is what users type."""
    table = Table.grid("name", "what", padding=(0, 2, 0, 0))
    table.columns[0].no_wrap = True
    return table


def show_help(session: Session) -> None:
    table = two_columns()
    for command in dict.fromkeys(COMMANDS.values()):
        table.add_row(command.usage, command.what)
    session.console.print(table)
    session.console.print(
        "With a slash before it (/help) a line is a command for sure; with a space before it, it is"
        " text. A line that ends with \\ goes on in the next. Ctrl-C stops an answer, Ctrl-D quits."
    )
    if session.loaded.render is None:
        session.console.print(
            "The model was not trained to converse: it continues the text, yours and its own. "
            "Your text begins on a new line of it; an empty line lets the model go on."
        )
    session.console.print(
        "For each answer the model reads the conversation again; then each token costs one step, "
        "because what it has read is kept in its cache."
    )


def show_presets(session: Session) -> None:
    table = Table("preset", "what differs from plain", box=None, padding=(0, 2, 0, 0))
    for name, sampler in SAMPLERS.items():
        changes = [f for f in vars(sampler) if getattr(sampler, f) != getattr(Sampler(), f)]
        shown = ", ".join(f"{f} {Settings(sampler).shown(f)}" for f in changes)
        table.add_row(name, shown or "the model's own distribution")
    session.console.print(table)


def use_preset(session: Session, name: str) -> None:
    session.settings = replace(session.settings, sampler=named_sampler(name))
    session.console.print(f"preset {name}")


def change_setting(session: Session, name: str, value: str) -> None:
    vocab_size = session.loaded.model.config.vocab_size
    session.settings = session.settings.change(name, value, vocab_size)
    name = name.replace("-", "_")
    session.console.print(f"{name} = {session.settings.shown(name)}")
    if session.settings.sampler.greedy and name in ("temperature", "top_k", "top_p", "min_p"):
        session.console.print("It has no effect while greedy is on: set greedy off.")


def show_settings(session: Session) -> None:
    table = two_columns()
    for name, what in SETTINGS.items():
        table.add_row(f"{name} {session.settings.shown(name)}", what)
    session.console.print(table)


def set_bars(session: Session, value: str) -> None:
    change_setting(session, "bars", value)


def show_history(session: Session) -> None:
    turns = session.conversation.turns
    if not turns:
        session.console.print("Nothing was said yet.")
    for number, turn in enumerate(turns):
        unseen = " (the model no longer sees this)" if number < session.n_unseen else ""
        session.console.print(f"{'you' if turn.role == 'user' else 'model'}{unseen}:", style="bold")
        print(harmless(turn.text))


def clear(session: Session) -> None:
    session.conversation.turns.clear()
    session.n_unseen = 0
    session.console.print("The conversation begins anew.")


def undo(session: Session) -> None:
    if not session.conversation.turns:
        raise LessonsError("nothing was said yet")
    session.conversation.undo()
    n_left = len(session.conversation.turns)
    session.console.print(
        f"Your last turn and what followed are forgotten; {n_left} turns are left."
    )


def save(session: Session, name: str) -> None:
    path = Path(name).expanduser()
    if path.exists():
        raise LessonsError("there is a file already", where=name, remedy="Choose another name.")
    turns = [{"role": turn.role, "content": turn.text} for turn in session.conversation.turns]
    replace_file(path, json.dumps(turns, ensure_ascii=False, indent=1) + "\n")
    session.console.print(f"{len(turns)} turns saved in {name}")


def leave(session: Session) -> None:
    raise EOFError


QUIT = Command(leave, "quit", "end the program, as exit and Ctrl-D do")
SHOW = Command(show_settings, "settings", "show all settings, with what they may be")
COMMANDS = {
    "help": Command(show_help, "help", "show this"),
    "presets": Command(show_presets, "presets", "list the named settings"),
    "preset": Command(use_preset, "preset NAME", "use one of them"),
    "set": Command(change_setting, "set NAME VALUE", "change one setting: set temperature 0.7"),
    "settings": SHOW,
    "show": SHOW,
    "bars": Command(set_bars, "bars on|off", "show each token with its probability"),
    "history": Command(show_history, "history", "show the conversation"),
    "undo": Command(undo, "undo", "forget your last turn and what followed"),
    "clear": Command(clear, "clear", "forget the whole conversation"),
    "save": Command(save, "save FILE", "write the conversation to a JSON file"),
    "quit": QUIT,
    "exit": QUIT,
}
