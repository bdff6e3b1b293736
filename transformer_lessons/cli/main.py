"""The command line: which command was asked for, and how its errors are shown: in one line."""

import importlib
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from transformer_lessons import __version__
from transformer_lessons.errors import LessonsError

COMMANDS = {
    "demo": 'watch the model with 2,656 parameters learn "ababab…", then let it write',
    "download": "fetch FineWeb's documents, to be read without a network",
    "prepare": "clean documents, drop bad ones and duplicates, and split them",
    "tokenizer": "train a tokenizer, encode text with it, inspect it, export it",
    "train": "train a model on pairs, a text, Python's documentation, or token files",
    "finetune": "train a trained model further, on conversations, whole or by LoRA",
    "evaluate": "compare trained models on the same text",
    "generate": "let a trained model continue a prompt, or many",
    "chat": "talk with a model in the terminal",
    "export": "write a model in the formats of others: GGUF, ONNX, Hugging Face and more",
    "inspect": "show what a checkpoint is made of",
    "doctor": "check that this machine computes rightly, and which data type it likes",
}
USAGE = "usage: python -m transformer_lessons COMMAND [--help] ...\n\ncommands:\n" + "".join(
    f"  {name:<10}{what}\n" for name, what in COMMANDS.items()
)


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code: 0, 2 for bad input, 130 when interrupted.

    141 means that whoever read the output has stopped, as a shell reports it.
    """
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, TextIOWrapper):
            output.reconfigure(encoding="utf-8", errors="replace")
    try:
        try:
            return run(arguments)
        finally:
            sys.stdout.flush()  # here, where a closed pipe is expected, not when Python ends
    except BrokenPipeError:
        # Python would complain once more when it closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (LessonsError, OSError) as error:  # OSError: a full disk, say
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def run(arguments: Sequence[str]) -> int:
    """Hand over to the module of the command, or print the usage or the version."""
    first = arguments[0] if arguments else ""
    if first in COMMANDS:
        from transformer_lessons.cli.options import read_options  # here, because it takes a while

        options = read_options(first, arguments[1:])
        return importlib.import_module(f"transformer_lessons.cli.{first}").run(options)
    answers = {"-h": USAGE, "--help": USAGE, "--version": f"{__version__}\n"}
    unknown = USAGE + f"error: unknown command {first!r}\n" * bool(arguments)
    print(answers.get(first, unknown), end="", file=sys.stdout if first in answers else sys.stderr)
    return 0 if first in answers else 2
