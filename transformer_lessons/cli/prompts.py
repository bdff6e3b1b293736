"""The prompts that a command was given: as an argument, in files, or on standard input."""

import json
import os
import sys
from pathlib import Path

from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tokenizer import Tokenizer

LARGEST = 64 * 2**20  # bytes of a file of prompts


def read_prompts(
    tokenizer: Tokenizer, prompt: str | None, prompt_file: Path | None, prompts_file: Path | None
) -> list[list[int]]:
    """The tokens of each prompt, from the one of the three that is not None.

    Special tokens in a prompt are text.
    """
    if prompt is not None:
        # The bytes as they were typed, also where the locale says that they are not UTF-8.
        return [encode(tokenizer, os.fsencode(prompt), "--prompt")]
    if prompt_file is not None:
        return [encode(tokenizer, read_bytes(prompt_file), str(prompt_file))]
    return [
        encode(tokenizer, line, f"{prompts_file}, line {number}")
        for number, line in enumerate(read_lines(prompts_file), start=1)
    ]


def encode(tokenizer: Tokenizer, data: bytes, where: str) -> list[int]:
    """The tokens of one prompt, which must not be empty."""
    if not data:
        raise LessonsError("the prompt is empty", where=where, remedy="Give some text.")
    if isinstance(tokenizer, ByteTokenizer):
        return tokenizer.encode(data)
    try:
        return tokenizer.encode_ordinary(data.decode("utf-8"))
    except UnicodeDecodeError:
        remedy = "This model's tokenizer reads text, not bytes."
        raise LessonsError("the prompt is not UTF-8", where=where, remedy=remedy) from None


def read_lines(path: Path) -> list[bytes]:
    """The prompts of a file: a line each, as it is, or as a JSON string in quotation marks."""
    lines = read_bytes(path).split(b"\n")
    if not lines[-1]:
        lines.pop()  # the end of the last line, not one more line
    prompts = []
    for number, line in enumerate(lines, start=1):
        line = line.removesuffix(b"\r")
        if line.startswith(b'"'):
            line = read_json_string(line, f"{path}, line {number}")
        prompts.append(line)
    if not prompts:
        raise LessonsError("no prompts", where=str(path), remedy="Give one a line.")
    return prompts


def read_json_string(line: bytes, where: str) -> bytes:
    """What a JSON string says, as UTF-8."""
    remedy = 'A prompt that begins with a quotation mark is written "\\"like this"'
    try:
        return json.loads(line).encode("utf-8")
    except (ValueError, AttributeError):  # not JSON, not UTF-8, half a surrogate pair
        raise LessonsError("not a JSON string", where=where, remedy=f"{remedy}.") from None


def read_bytes(path: Path) -> bytes:
    """The contents of a file, or of standard input for "-"; too much raises `LessonsError`."""
    try:
        if path == Path("-"):
            data = sys.stdin.buffer.read(LARGEST + 1) if sys.stdin else b""
        else:
            with path.open("rb") as file:
                data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        what = f"can't read it: {getattr(error, 'strerror', None) or error}"
        raise LessonsError(what, where=str(path)) from None
    if len(data) > LARGEST:
        what = f"more than {LARGEST // 2**20} MiB of prompts"
        raise LessonsError(what, where=str(path), remedy="Cut the file into parts.")
    return data
