"""`chat`, its commands one by one, and driven as a user does: in a real terminal."""

import errno
import fcntl
import io
import json
import os
import pty
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest
import torch

from transformer_lessons.cli import PlainConsole
from transformer_lessons.cli.chat import Chat, converse
from transformer_lessons.cli.chat_commands import COMMANDS, Session, read_command
from transformer_lessons.cli.chat_settings import LONGEST, SETTINGS, Settings
from transformer_lessons.cli.main import main
from transformer_lessons.cli.models import LoadedModel
from transformer_lessons.cli.writing import harmless
from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.conversation import Conversation
from transformer_lessons.generation.generate import generate
from transformer_lessons.generation.sampling import SAMPLERS, Sampler
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.linear import replace_linear
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.training.checkpoint import save_checkpoint
from transformer_lessons.weights.quantize import Int8Linear
from transformer_lessons.weights.shipped import load_shipped

COMMAND = [sys.executable, "-W", "error", "-m", "transformer_lessons", "chat"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"}
ENVIRONMENT.pop("COLUMNS", None)  # else nobody would ask the terminal how wide it is
WAIT = 120  # seconds; a busy machine is no failure
PATIENCE = 5  # seconds until a key is pressed again


@pytest.fixture
def session():
    """A chat with a model of random bytes, which writes 12 of them."""
    torch.manual_seed(0)
    config = ModelConfig(256, context_length=64, d_model=8, n_layers=1, n_heads=2, d_ff=8)
    loaded = LoadedModel("random", Decoder(config), ByteTokenizer())
    settings = Settings(Sampler(), max_new_tokens=12, seed=5)
    return Session(loaded, Conversation(loaded.tokenizer, 64), settings, PlainConsole())


def type_lines(session, *lines):
    """Converse as if in a terminal where `lines` are typed; KeyboardInterrupt among them is one."""
    waiting = list(lines)

    def read_line(prompt):
        if not waiting:
            raise EOFError
        if waiting[0] is KeyboardInterrupt:
            raise waiting.pop(0)
        return waiting.pop(0)

    converse(session, read_line, in_terminal=True)
    return waiting


def texts(session):
    return [turn.text for turn in session.conversation.turns]


def test_an_answer_is_what_generate_gives(session, capsys):  # SPEC F9 S6
    type_lines(session, "ab", "cd")
    model = session.loaded.model
    first = bytes(generate(model, [b"ab"], 12, Sampler(), seed=5)[0]).decode(errors="replace")
    again = f"ab{first}\ncd".encode()[-52:]  # 64 less the 12 that it is to write
    then = bytes(generate(model, [again], 12, Sampler(), seed=6)[0]).decode(errors="replace")
    assert texts(session) == ["ab", first, "cd", then]
    shown = capsys.readouterr().out
    assert "[read 2 tokens in 0." in shown
    assert "wrote 12 at " in shown
    assert shown.count("the longest allowed]") == 2


def test_an_empty_line_lets_the_model_go_on(session):
    type_lines(session, "", "ab", "")
    first = generate(session.loaded.model, [b"ab"], 12, Sampler(), seed=5)[0]
    assert [turn.role for turn in session.conversation.turns] == ["user", "assistant", "assistant"]
    assert texts(session)[1] == bytes(first).decode(errors="replace")


def test_a_backslash_at_the_end_goes_on_in_the_next_line(session):
    type_lines(session, "def f():\\", "    return\\", " 1")
    assert texts(session)[0] == "def f():\n    return\n 1"


def test_what_the_model_writes_can_not_command_the_terminal(session, capsys):
    torch.nn.init.zeros_(session.loaded.model.head.bias)
    with torch.no_grad():
        session.loaded.model.head.bias[27] = 100.0  # ESC
    for bars in ("off", "on"):
        type_lines(session, f"bars {bars}", "ab", "history")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "·" * 12 in shown
    assert "'·'    27" in shown


def test_stop_strings_end_an_answer(session, capsys):
    type_lines(session, "ab")
    stop = texts(session)[1][4:6]
    session.stop_strings = (stop,)
    type_lines(session, "clear", "set seed 5", "ab")
    whole = bytes(generate(session.loaded.model, [b"ab"], 12, Sampler(), seed=5)[0])
    whole = whole.decode(errors="replace")
    assert texts(session)[1] == whole[: whole.index(stop)]
    assert "stop string]" in capsys.readouterr().out


def test_seeds_count_up_so_that_undo_gives_another_answer(session):
    type_lines(session, "ab", "undo", "ab")
    expected = generate(session.loaded.model, [b"ab"], 12, Sampler(), seed=6)[0]
    assert texts(session) == ["ab", bytes(expected).decode(errors="replace")]
    assert session.settings.seed == 7


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("set temperature 0.7", "temperature", 0.7),
        ("/set temperature=0.7", "temperature", 0.7),
        ("set greedy on", "greedy", True),
        ("set greedy false", "greedy", False),
        ("set top-k 3", "top_k", 3),
        ("set top_p = 0.5", "top_p", 0.5),
        ("set min_p 0.5", "min_p", 0.5),
        ("set repetition_penalty 1.5", "repetition_penalty", 1.5),
        ("set frequency_penalty 1", "frequency_penalty", 1.0),
        ("set max_new_tokens 3", "max_new_tokens", 3),
        ("set seed 8", "seed", 8),
        ("set bars on", "bars", True),
        ("bars on", "bars", True),
    ],
)
def test_every_setting_can_be_set(line, name, value, session):  # SPEC S6
    type_lines(session, line)
    assert session.settings.value(name) == value
    assert texts(session) == []
    changed = [name for name in SETTINGS if session.settings.value(name) != {**DEFAULT}[name]]
    assert changed == ([name] if value != DEFAULT[name] else [])


DEFAULT = {**vars(Sampler()), "max_new_tokens": 12, "seed": 5, "bars": False}


def test_top_k_can_be_taken_back(session):
    type_lines(session, "set top_k 3", "set top_k off")
    assert session.settings.sampler == Sampler()


def test_the_settings_are_all_there_are():
    assert set(SETTINGS) == set(DEFAULT)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("set tempo 3", "no setting 'tempo'. Known: temperature, greedy"),
        ("set temperature 0", "temperature = 0.0 is not at least 0.001"),
        ("set temperature warm", "temperature = 'warm' is not a number"),
        ("set temperature nan", "temperature = nan is not"),
        ("set temperature", "the command is: set NAME VALUE"),
        ("set top_k 257", "top_k = 257 of a vocabulary of 256"),
        ("set top_k 0", "top_k = 0 is not"),
        ("set top_k 1.5", "top_k = '1.5' is not a whole number"),
        ("set top_p 0", "top_p = 0.0 is not above 0, at most 1"),
        ("set top_p 1.01", "top_p = 1.01 is not above 0, at most 1"),
        ("set min_p -1", "min_p = -1.0 is not from 0 to 1"),
        ("set repetition_penalty 0.5", "repetition_penalty = 0.5 is not from 1"),
        ("set frequency_penalty 11", "frequency_penalty = 11.0 is not from 0"),
        ("set max_new_tokens 0", "max_new_tokens = 0 is not from 1 to 100,000"),
        (f"set max_new_tokens {LONGEST + 1}", "max_new_tokens = 100001 is not from 1 to 100,000"),
        ("set seed -1", "seed = -1 is not from 0"),
        ("set greedy maybe", "greedy = 'maybe' is not on or off"),
        ("bars", "the command is: bars on|off"),
        ("preset wild", "no preset 'wild'. Known: greedy, sure"),
        ("/prest sure", "no command /prest"),
        ("/", "no command /"),
        ("undo", "nothing was said yet"),
        ("a\udcff", "is not a character"),
    ],
)
def test_bad_lines_are_explained_and_change_nothing(line, expected, session, capsys):  # SPEC S6 S9
    before = session.settings
    type_lines(session, line)
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("error: ")
    assert expected in shown
    assert (session.settings, texts(session)) == (before, [])


@pytest.mark.parametrize(
    "line",
    [
        *("hello", " help", "help me", "set the table for four", "  /help", "Help", "\tquit"),
        *("quit smoking now", "preset 1 2", "undo it", ""),
    ],
)
def test_other_lines_are_text(line):
    assert read_command(line) is None


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_known_with_and_without_a_slash(name):
    words = ["x"] * COMMANDS[name].n_words
    for mark in ("", "/"):
        assert read_command(" ".join([mark + name, *words])) == (COMMANDS[name], words)


def test_help_names_every_command(session, capsys):
    type_lines(session, "help")
    shown = capsys.readouterr().out
    for command in COMMANDS.values():
        assert command.usage in shown
    assert "continues the text" in shown


def test_presets_and_settings_are_shown(session, capsys):  # SPEC S6
    type_lines(session, "presets", "preset sure", "settings")
    shown = " ".join(capsys.readouterr().out.split())
    assert "sure temperature 0.2, top_p 0.95" in shown
    assert "preset sure temperature 0.2 below 1 surer" in shown
    assert session.settings.sampler == SAMPLERS["sure"]
    type_lines(session, "preset greedy", "set temperature 0.7")
    assert "no effect while greedy is on" in capsys.readouterr().out


def test_history_clear_and_undo(session, capsys):
    type_lines(session, "ab", "cd", "history")
    kept = texts(session)
    shown = capsys.readouterr().out
    assert f"you:\nab\nmodel:\n{kept[1]}\n".replace("\x00", "·")[:12] in shown
    assert shown.index("\nab\n") < shown.rindex("\ncd\n")
    type_lines(session, "undo")
    assert texts(session) == kept[:2]
    type_lines(session, "clear", "history")
    assert texts(session) == []
    assert "Nothing was said yet." in capsys.readouterr().out


def test_what_the_model_does_not_see_is_said(session, capsys):
    type_lines(session, "a" * 40, "b" * 30, "history")
    shown = capsys.readouterr().out
    assert "without the 1 oldest turns" in shown or "without the 2 oldest turns" in shown
    assert "you (the model no longer sees this):\n" + "a" * 40 in shown
    assert "you:\n" + "b" * 30 in shown
    type_lines(session, "clear", "c" * 60)
    assert "read 52 tokens without the first 8 of the oldest turn" in capsys.readouterr().out


def test_a_conversation_can_be_saved_once(session, tmp_path, capsys):
    path = tmp_path / "talk.json"
    type_lines(session, "ab", f"save {path}")
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert [turn["content"] for turn in saved] == texts(session)
    assert [turn["role"] for turn in saved] == ["user", "assistant"]
    before = path.read_bytes()
    type_lines(session, "cd", f"save {path}", f"save {tmp_path}/no/where.json")
    assert path.read_bytes() == before
    shown = " ".join(capsys.readouterr().out.split())
    assert "there is a file already" in shown
    assert "can't write it" in shown


def test_a_model_that_has_diverged_is_no_end(session, capsys):
    torch.nn.init.constant_(session.loaded.model.head.bias, float("nan"))
    assert type_lines(session, "ab", "help") == []
    shown = capsys.readouterr().out
    assert "error: the scores are not all finite" in shown
    assert "preset NAME" in shown  # the next line was read
    assert texts(session) == []  # what was not answered was not said


def test_ctrl_c_stops_the_answer_and_keeps_what_was_written(session, monkeypatch, capsys):
    sampled = Sampler.__call__
    calls = []

    def interrupt(self, *arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return sampled(self, *arguments)

    monkeypatch.setattr(Sampler, "__call__", interrupt)
    type_lines(session, "ab")
    expected = generate(session.loaded.model, [b"ab"], 4, Sampler(), seed=5)[0]
    text = bytes(expected).decode(errors="replace")
    assert text.startswith(texts(session)[1])
    assert len(texts(session)[1]) >= len(text) - 3  # but for a character that was not complete
    assert "wrote 4" in capsys.readouterr().out


def test_ctrl_c_quits_when_pressed_twice_at_the_prompt(session, capsys):
    with pytest.raises(KeyboardInterrupt):
        type_lines(session, KeyboardInterrupt, KeyboardInterrupt, "ab")
    assert texts(session) == []
    try:
        type_lines(session, KeyboardInterrupt, "ab", KeyboardInterrupt, "history")
    except KeyboardInterrupt:
        pytest.fail("it quit, though the two had a line between them")
    assert len(texts(session)) == 2
    assert capsys.readouterr().out.count("Ctrl-C again, or Ctrl-D, quits.") == 3


@pytest.mark.parametrize("line", ["quit", "exit", "/quit"])
def test_quit_leaves(line, session):
    assert type_lines(session, line, "not read") == ["not read"]


def render(messages):
    return "".join(f"{m['role']}:{m['content']};" for m in messages) + "assistant:"


def test_a_chat_template_is_used(session, capsys):
    class Tokenizer(ByteTokenizer):
        def encode(self, text, allowed_special=()):
            return super().encode(text)

    tokenizer = Tokenizer()
    session.conversation = Conversation(tokenizer, 64, render, system="S")
    session.loaded = LoadedModel("random", session.loaded.model, tokenizer, render)
    assert type_lines(session, "", "ab", "") == []  # an empty line is no turn
    expected = generate(session.loaded.model, [b"system:S;user:ab;assistant:"], 12, seed=5)[0]
    assert texts(session) == ["ab", bytes(expected).decode(errors="replace")]


def chat_with(monkeypatch, stdin, *arguments):
    """Run the program in this process on lines that don't come from a terminal."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
    return main(["chat", *arguments])


def test_lines_may_come_from_a_pipe(monkeypatch, capsys):
    stdin = "set greedy on\ndef né(\n".encode()
    assert chat_with(monkeypatch, stdin, "--max-new-tokens", "8") == 0
    model, tokenizer = load_shipped()
    tokens = generate(model, [tokenizer.encode_ordinary("def né(")], 8, Sampler(greedy=True))[0]
    shown = capsys.readouterr().out
    assert shown.startswith("python-small: 3,148,224 parameters, it sees 256 tokens at once.")
    assert f"> set greedy on\ngreedy = on\n> def né(\n{tokenizer.decode(tokens)}" in shown


def test_bad_lines_from_a_pipe_end_the_program(monkeypatch, capsys):
    assert chat_with(monkeypatch, b"set tempo 3\ndef f(\n") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: no setting 'tempo'")
    assert "def f(" not in captured.out
    assert chat_with(monkeypatch, b"\xff\n") == 2
    assert "is not a character" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--max-new-tokens", "0"), "max_new_tokens = 0"),
        (("--temperature", "0"), "temperature = 0.0"),
        (("--top-k", "5000"), "top_k = 5000 of a vocabulary of 4096"),
        (("--system", "Be brief."), "no chat template"),
        (("--stop", ""), "a stop string is empty"),
        (("--seed", "-1"), "seed = -1"),
        (("nowhere",), "no checkpoint here"),
    ],
)
def test_bad_arguments_end_with_one_line_and_code_2(arguments, expected, monkeypatch, capsys):
    assert chat_with(monkeypatch, b"", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert expected in captured.err
    assert captured.err.count("\n") == 1


def test_the_defaults():
    assert Chat().sampler(SAMPLERS["balanced"]) == SAMPLERS["balanced"]
    with pytest.raises(LessonsError, match="max_new_tokens"):
        Settings(Sampler(), max_new_tokens=0)


class Terminal:
    """A program in a terminal of its own: what it shows, keys, and its end."""

    def __init__(self, *arguments: str, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=ENVIRONMENT,
            preexec_fn=take_terminal,
        )
        os.close(slave)
        self.shown = ""
        self.seen = 0  # where `until` goes on looking
        self.n_reads = 0

    def until(self, text: str, insist: str = "") -> str:
        """Wait for `text`; returns what was shown since the last time."""
        waiting = self.wait(f"{text!r} never came", insist)
        while (end := self.shown.find(text, self.seen)) < 0:
            next(waiting)
            if not select.select([self.master], [], [], 1)[0]:
                continue
            try:
                data = os.read(self.master, 4096)
            except OSError as error:  # Linux says so when the last program has left
                if error.errno != errno.EIO:
                    raise
                data = b""
            assert data, f"it ended before {text!r}:\n{self.shown}"
            self.shown += data.decode(errors="replace")
            self.n_reads += 1
        start, self.seen = self.seen, end + len(text)
        return self.shown[start : self.seen]

    def wait(self, what: str, insist: str) -> Iterator[None]:
        """To be asked for the next while one waits; fails with `what` when that took too long.

        `insist` is pressed every few seconds: Python's readline doesn't notice a Ctrl-C that comes
        just before it waits for keys, until the next key comes.
        """
        deadline, again = time.monotonic() + WAIT, time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < deadline, f"{what}:\n{self.shown}"
            if insist and time.monotonic() > again:
                self.press(insist)
                again += PATIENCE
            yield

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def end(self) -> int:
        """Close the terminal, if it is open; returns the program's exit code."""
        if self.master is not None:
            os.close(self.master)
            self.master = None
        return self.process.wait(timeout=WAIT)


def take_terminal() -> None:
    """In the child: a session whose terminal is its standard input, and Ctrl-C as by default."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as for a job in the background of a script


@pytest.fixture
def terminal():
    terminals = []

    def start(*arguments):
        terminals.append(Terminal(*arguments))
        return terminals[-1]

    yield start
    for one in terminals:
        one.process.kill()
        one.end()


def wait_for_end(one: Terminal, insist: str = "") -> int:
    """The exit code of a program that ends by itself; its terminal is open."""
    waiting = one.wait("it never ended", insist)
    while one.process.poll() is None:
        next(waiting)
        if select.select([one.master], [], [], 0.1)[0]:
            try:
                one.shown += os.read(one.master, 4096).decode(errors="replace")
            except OSError:
                break
    return one.process.wait(timeout=WAIT)


def test_a_chat_with_rounded_weights_and_a_compiled_step(
    tmp_path, monkeypatch, capsys, random_model
):
    """What it writes is what the rounded model writes; the count of parameters is of all."""
    config = ModelConfig(256, context_length=64, d_model=8, n_layers=1, n_heads=2, d_ff=8)
    model = random_model(config, size=3).float()
    save_checkpoint(tmp_path / "model", 1, model)
    compiled, steps = [], []

    def compile_step(step, **how):
        compiled.append(step)
        return lambda *arguments: steps.append(arguments) or step(*arguments)

    monkeypatch.setattr("torch.compile", compile_step)

    def chat(*options):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ab\n")))
        arguments = [str(tmp_path / "model"), "--max-new-tokens", "400", "--seed", "3", *options]
        assert main(["chat", *arguments]) == 0
        return capsys.readouterr().out

    whole, rounded, both = chat(), chat("--int8"), chat("--int8", "--compile")
    assert len(compiled) == 1
    assert len(steps) > 50  # until the context is full; then the window slides
    assert f"{count_parameters(model):,}" in rounded
    assert "It compiles" in both
    replace_linear(model, Int8Linear)
    [expected] = generate(model, [list(b"ab")], 400, SAMPLERS["balanced"], seed=3)
    text = harmless(bytes(expected).decode(errors="replace"))
    assert text in rounded
    assert text in both
    assert text not in whole


def test_a_conversation_in_a_terminal(terminal):  # SPEC F9 F10 A8 S6
    chat = terminal("--max-new-tokens", "30")
    assert "python-small: 3,148,224 parameters" in chat.until("> ")
    # An answer comes as it is written.
    before = chat.n_reads
    chat.press("class Stack(object):\r")
    answer = chat.until("the longest allowed]")
    assert chat.n_reads - before > 10
    assert "read 5 tokens in" in answer
    chat.until("> ")
    # Ctrl-C stops it, and not the program.
    chat.press("set max_new_tokens 100000\r")
    chat.until("max_new_tokens = 100000")
    chat.until("> ")
    chat.press("import \r")
    chat.until("\n")
    for _ in range(5):
        chat.until("\n")  # some lines of it
    chat.press("\x03")
    assert "[read" in chat.until("stopped]")
    chat.until("> ")
    chat.press("history\r")
    assert "import" in chat.until("> ")
    # Bad values are explained.
    chat.press("set temperature 0\r")
    assert "temperature = 0.0 is not at least 0.001" in chat.until("> ")
    chat.press("presets\r")
    assert "balanced" in chat.until("> ")
    # Bars: each token with its probability.
    chat.press("bars on\r")
    chat.until("bars = on")
    chat.press("set max_new_tokens 4\r")
    chat.until("max_new_tokens = 4")
    chat.until("> ")
    chat.press("def \r")
    bars = [line for line in chat.until("allowed]").splitlines() if "░" in line or "█" in line]
    assert len(bars) == 4
    assert all(line.rstrip().endswith("%") for line in bars)
    chat.until("> ")
    # Ctrl-D ends it.
    chat.press("\x04")
    assert wait_for_end(chat) == 0
    assert "Traceback" not in chat.shown


def test_ctrl_c_twice_at_the_prompt_quits(terminal):
    chat = terminal()
    chat.until("> ")
    chat.press("half a li\x03")
    chat.until("Ctrl-C again, or Ctrl-D, quits.", insist="\x03")
    chat.until("> ")
    chat.press("\x03")
    assert wait_for_end(chat, insist="\x03") == 130
    assert chat.shown.rstrip().endswith("stopped")
    assert "half a li\n" not in chat.shown.replace("\r", "")  # it was no turn


def test_a_terminal_that_is_closed_ends_it(terminal):
    chat = terminal("--max-new-tokens", "100000")
    chat.until("> ")
    chat.press("import \r")
    chat.until("\n")
    chat.until("\n")  # it writes
    assert chat.end() == -signal.SIGHUP


def test_a_reader_that_leaves_ends_it_quietly():
    """As in `chat | head -n 1`."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    line = [*COMMAND, "--max-new-tokens", "100000"]
    with subprocess.Popen(line, env=ENVIRONMENT, **pipes) as process:
        process.stdin.write(b"import \n")
        process.stdin.close()
        assert process.stdout.readline().startswith(b"python-small")
        process.stdout.close()
        errors = process.stderr.read()
        assert (process.wait(timeout=WAIT), errors) == (141, b"")


def test_the_screen_at_80_and_at_40_columns(tmp_path):  # SPEC F9
    """Read from a terminal that places every character, whose window is made narrow."""
    if shutil.which("tmux") is None:
        remedy = "tmux is not installed: apt-get install tmux, or brew install tmux"
        pytest.fail(remedy) if os.environ.get("CI") else pytest.skip(remedy)
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null"]

    def do(*words):
        # Without `env` there would be a COLUMNS in it, from the readline that pytest loads.
        options = {"check": True, "capture_output": True, "text": True, "env": ENVIRONMENT}
        return subprocess.run([*tmux, *words], **options).stdout

    def screen(until):
        deadline = time.monotonic() + WAIT
        while until not in (shown := do("capture-pane", "-p")):
            assert time.monotonic() < deadline, f"{until!r} never came:\n{shown}"
            time.sleep(0.1)
        return [line.rstrip() for line in shown.splitlines()]

    command = f"OMP_NUM_THREADS=1 {shlex.join(COMMAND)} --max-new-tokens 3; echo code $?; sleep 99"
    do("new-session", "-d", "-x", "80", "-y", "24", command)
    try:
        lines = screen("quits.\n>")
        assert lines[2] == "Type text, or help. Ctrl-C stops an answer, Ctrl-D quits."
        do("resize-window", "-x", "40", "-y", "24")
        with open(do("display-message", "-p", "#{pane_tty}").strip(), "rb") as tty:
            while os.get_terminal_size(tty.fileno()).columns != 40:
                time.sleep(0.05)  # tmux takes a moment to tell the program
        do("send-keys", "settings", "Enter")
        lines = screen("its probability")
        assert any(line.startswith("repetition_penalty 1.0 ") for line in lines)  # still whole
        do("send-keys", "bars on", "Enter", "def né✓(", "Enter")
        lines = screen("allowed]")
        typed = lines.index("> def né✓(")
        assert [line[-1] for line in lines[typed + 1 : typed + 4]] == ["%"] * 3  # not wrapped
        do("send-keys", "quit", "Enter")
        assert screen("code 0")
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)
