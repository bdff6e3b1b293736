"""`chat`: its commands one by one, and driven as a user does, in a real terminal."""

import errno
import fcntl
import io
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

import pytest
import torch

from transformer_lessons.cli import chat
from transformer_lessons.cli.display import sanitize
from transformer_lessons.cli.main import main
from transformer_lessons.config import ModelConfig
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
CONFIG = ModelConfig(256, context_length=64, d_model=8, n_layers=1, n_heads=2, d_ff=8)


@pytest.fixture
def conversation():
    """A chat with a model of random bytes, which writes 12 of them."""
    torch.manual_seed(0)
    return Conversation(Decoder(CONFIG), ByteTokenizer(), max_new_tokens=12, seed=5)


@pytest.fixture
def type_lines(conversation, monkeypatch):
    """Converse as if in a terminal where lines are typed; KeyboardInterrupt among them is one."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def run(*lines):
        waiting = list(lines)

        def read_line(prompt):
            if not waiting:
                raise EOFError
            if waiting[0] is KeyboardInterrupt:
                raise waiting.pop(0)
            return waiting.pop(0)

        chat.converse(conversation, read_line)
        return waiting

    return run


def contents(conversation):
    return [message.content for message in conversation.messages]


def test_an_answer_is_what_generate_gives(conversation, type_lines, capsys):  # SPEC F9 S6
    type_lines("ab")
    tokens = generate(conversation.model, [b"ab"], 12, Sampler(), seed=5)[0]
    assert contents(conversation) == ["ab", bytes(tokens).decode(errors="replace")]
    shown = capsys.readouterr().out
    assert "[read 2 tokens in " in shown
    assert "wrote 12 at " in shown
    assert "; length]" in shown


def test_an_empty_line_lets_the_model_go_on(conversation, type_lines):
    type_lines("", "ab", "")
    roles = [message.role for message in conversation.messages]
    assert roles == ["user", "assistant", "assistant"]


def test_a_backslash_at_the_end_goes_on_in_the_next_line(conversation, type_lines):
    type_lines("def f():\\", "    return\\", " 1")
    assert contents(conversation)[0] == "def f():\n    return\n 1"


def test_what_the_model_writes_can_not_command_the_terminal(conversation, type_lines, capsys):
    with torch.no_grad():
        conversation.model.head.bias[27] = 100.0  # ESC
    type_lines("ab")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "·" * 12 in shown


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("set temperature 0.7", "temperature", 0.7),
        ("/set temperature 0", "temperature", 0),
        ("set top-k 3", "top_k", 3),
        ("set top_k off", "top_k", None),
        ("set top_p 0.5", "top_p", 0.5),
        ("set min_p 0.5", "min_p", 0.5),
        ("set repetition_penalty 1.5", "repetition_penalty", 1.5),
        ("set frequency_penalty 1", "frequency_penalty", 1.0),
        ("set max_new_tokens 3", "max_new_tokens", 3),
        ("set seed 8", "seed", 8),
        ("set preset sure", "sampler", SAMPLERS["sure"]),
    ],
)
def test_every_setting_can_be_set(line, name, value, conversation, type_lines):  # SPEC S6
    type_lines(line)
    assert (vars(conversation) | vars(conversation.sampler))[name] == value
    assert contents(conversation) == []


def test_the_settings_are_all_there_are():
    others = {"preset", "max_new_tokens", "seed", "persona"}
    assert set(chat.SETTINGS) == {*vars(Sampler())} | others


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("set tempo 3", "no setting 'tempo'. Known: preset, temperature"),
        ("set temperature 0.0001", "temperature = 0.0001 is not 0 (greedy), or at least 0.001"),
        ("set temperature warm", "temperature = 'warm' is not a number"),
        ("set temperature nan", "temperature = nan is not"),
        ("set top_k 257", "top_k = 257 of a vocabulary of 256"),
        ("set top_k 1.5", "top_k = '1.5' is not a whole number"),
        ("set top_p 0", "top_p = 0.0 is not above 0, at most 1"),
        ("set min_p -1", "min_p = -1.0 is not from 0 to 1"),
        ("set repetition_penalty 0.5", "repetition_penalty = 0.5 is not from 1"),
        ("set frequency_penalty 11", "frequency_penalty = 11.0 is not from 0"),
        ("set max_new_tokens -1", "max_new_tokens = -1 is not from 0 to 100,000"),
        ("set seed -1", "seed = -1 is not an integer from 0"),
        ("set preset wild", "no preset 'wild'. Known: greedy, sure"),
        ("a\udcff", "is not a character"),
    ],
)
def test_bad_lines_are_explained(line, expected, conversation, type_lines, capsys):  # SPEC S6 S9
    type_lines(line)
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("error: ")
    assert expected in shown
    assert (conversation.sampler, contents(conversation)) == (Sampler(), [])


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        " help",
        "help me",
        "set the table for four",
        "  /help",
        "/help me",
        "Help",
        "\tquit",
        "",
    ],
)
def test_other_lines_are_text(line):
    assert chat.read_command(line) is None


def test_help(type_lines, capsys):  # SPEC S6
    type_lines("/help")
    shown = " ".join(capsys.readouterr().out.split())
    for words in (*chat.COMMANDS, *chat.SETTINGS, *SAMPLERS):
        assert words in shown


def test_reset_and_quit(conversation, type_lines):
    assert type_lines("ab", "quit", "not read") == ["not read"]
    assert len(contents(conversation)) == 2
    type_lines("reset")
    assert contents(conversation) == []


def test_what_the_model_does_not_see_is_said(type_lines, capsys):
    type_lines("a" * 40, "b" * 30)
    assert "tokens without the " in capsys.readouterr().out
    type_lines("reset", "c" * 60)
    assert "read 52 tokens without the 8 oldest in" in capsys.readouterr().out


def test_a_model_that_has_diverged_is_no_end(conversation, type_lines, capsys):
    torch.nn.init.constant_(conversation.model.head.bias, float("nan"))
    assert type_lines("ab", "help") == []
    shown = capsys.readouterr().out
    assert "error: the scores are not all finite" in shown
    assert "set NAME VALUE" in shown  # the next line was read
    assert contents(conversation) == []  # what was not answered was not said


def test_ctrl_c_stops_the_answer_and_keeps_what_was_written(
    conversation, type_lines, monkeypatch, capsys
):
    sampled, calls = Sampler.__call__, []

    def interrupt(self, *arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return sampled(self, *arguments)

    monkeypatch.setattr(Sampler, "__call__", interrupt)
    type_lines("ab")
    text = bytes(generate(conversation.model, [b"ab"], 4, Sampler(), seed=5)[0])
    text = text.decode(errors="replace")
    assert text.startswith(contents(conversation)[1])
    assert len(contents(conversation)[1]) >= len(text) - 3  # a character may not be complete
    assert "; stopped]" in capsys.readouterr().out


def test_ctrl_c_at_the_prompt_says_how_to_quit(conversation, type_lines, capsys):
    type_lines(KeyboardInterrupt, "ab")
    assert capsys.readouterr().out.startswith("\nCtrl-D quits.")
    assert len(contents(conversation)) == 2  # the next line was read


def chat_with(monkeypatch, stdin, *arguments):
    """Run the program in this process on lines that don't come from a terminal."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
    return main(["chat", *arguments])


def test_lines_may_come_from_a_pipe(monkeypatch, capsys):
    stdin = "set temperature 0\ndef né(\n".encode()
    assert chat_with(monkeypatch, stdin, "--max-new-tokens", "8") == 0
    model, tokenizer = load_shipped()
    prompt = tokenizer.encode_ordinary("def né(")
    tokens = generate(model, [prompt], 8, Sampler(temperature=0))[0]
    shown = capsys.readouterr().out
    assert shown.startswith("python-small: 3,148,224 parameters. It sees 256 tokens at once")
    assert f"> set temperature 0\ntemperature = 0\n> def né(\n{tokenizer.decode(tokens)}" in shown


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
        (("--max-new-tokens", "-1"), "max_new_tokens = -1"),
        (("--temperature", "-1"), "temperature = -1.0"),
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


def test_a_chat_with_rounded_weights_and_a_compiled_step(
    tmp_path, monkeypatch, capsys, random_model
):
    """What it writes is what the rounded model writes; the count of parameters is of all."""
    model = random_model(CONFIG, size=3).float()
    save_checkpoint(tmp_path / "model", 1, model)
    ByteTokenizer().save(tmp_path / "model/tokenizer.json")
    compiled, steps = [], []

    def compile_step(step, **how):
        compiled.append(step)
        return lambda *arguments: steps.append(arguments) or step(*arguments)

    monkeypatch.setattr("torch.compile", compile_step)

    def answer(*options):
        arguments = [str(tmp_path / "model"), "--max-new-tokens", "400", "--seed", "3", *options]
        assert chat_with(monkeypatch, b"ab\n", *arguments) == 0
        return capsys.readouterr().out

    whole, rounded, both = answer(), answer("--bits", "8"), answer("--bits", "8", "--compile")
    assert len(compiled) == 1
    assert len(steps) > 50  # until the context is full; then the window slides
    assert f"{count_parameters(model):,}" in rounded
    replace_linear(model, Int8Linear)
    [expected] = generate(model, [list(b"ab")], 400, SAMPLERS["balanced"], seed=3)
    text = sanitize(bytes(expected).decode(errors="replace"))
    assert text in rounded
    assert text in both
    assert text not in whole


class Terminal:
    """A program in a terminal of its own: what it shows, keys, and its end."""

    def __init__(self, *arguments: str, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        take_terminal = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        start = [sys.executable, "-c", take_terminal + "os.execv(sys.argv[1], sys.argv[1:])"]
        self.process = subprocess.Popen(
            [*start, *COMMAND, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        os.close(slave)
        self.shown, self.seen, self.n_reads = "", 0, 0  # `until` goes on looking at `seen`

    def until(self, text: str) -> str:
        """Wait for `text`; returns what was shown since the last time."""
        deadline = time.monotonic() + WAIT
        while (end := self.shown.find(text, self.seen)) < 0:
            assert time.monotonic() < deadline, f"{text!r} never came:\n{self.shown}"
            assert self.read(), f"it ended before {text!r}:\n{self.shown}"
        start, self.seen = self.seen, end + len(text)
        return self.shown[start : self.seen]

    def read(self) -> bool:
        """Read what there is; False at the end."""
        if not select.select([self.master], [], [], 1)[0]:
            return True
        try:
            data = os.read(self.master, 4096)
        except OSError as error:  # Linux says so when the last program has left
            if error.errno != errno.EIO:
                raise
            data = b""
        self.shown += data.decode(errors="replace")
        self.n_reads += 1
        return data != b""

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def end(self) -> int:
        """The exit code of a program that ends by itself."""
        deadline = time.monotonic() + WAIT
        while self.read():
            assert time.monotonic() < deadline, f"it never ended:\n{self.shown}"
        return self.process.wait(timeout=WAIT)


@pytest.fixture
def terminal():
    one = Terminal("--max-new-tokens", "30")
    yield one
    one.process.kill()
    one.process.wait(timeout=WAIT)
    os.close(one.master)


def test_a_conversation_in_a_terminal(terminal):  # SPEC F9 F10 A8 S6
    assert "python-small: 3,148,224 parameters" in terminal.until("> ")
    before = terminal.n_reads
    terminal.press("class Stack(object):\r")
    assert "read 5 tokens in" in terminal.until("; length]")
    assert terminal.n_reads - before > 10  # an answer comes as it is written
    terminal.until("> ")
    terminal.press("set max_new_tokens 100000\r")
    terminal.until("\r\n> ")
    terminal.press("import \r")
    for _ in range(5):
        terminal.until("\n")  # some lines of it
    terminal.press("\x03")  # Ctrl-C stops it, and not the program
    terminal.until("; stopped]")
    terminal.until("> ")
    terminal.press("set temperature -1\r")
    assert "error: temperature = -1.0 is not 0" in terminal.until("> ")
    terminal.press("\x04")  # Ctrl-D ends it
    assert terminal.end() == 0
    assert "Traceback" not in terminal.shown


def test_tables_in_a_narrow_terminal(type_lines, capsys, monkeypatch):  # SPEC F9
    monkeypatch.setenv("COLUMNS", "40")
    type_lines("help")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(" repetition_penalty 1.0 ") for line in lines)  # still whole


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


def test_a_command_may_begin_with_a_slash():
    for usage in chat.COMMANDS:
        assert chat.read_command(usage) == chat.read_command(f"/{usage}") == usage.split()
        assert chat.read_command(f"{usage} more") is None
