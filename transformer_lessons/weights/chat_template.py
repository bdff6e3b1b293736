"""Conversations as one text: the form in which a chat model has seen them in training.

A model continues a text, no more. What makes it answer is that the text looks like its training
data: who speaks is marked by special tokens, and it ends where the assistant's answer begins. The
form is a model's own, and comes with it as a template.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformer_lessons.errors import LessonsError
from transformer_lessons.weights import chat_sandbox
from transformer_lessons.weights.gguf import read_gguf
from transformer_lessons.weights.safetensors_files import file_in_folder, read_json_file

LARGEST_TEMPLATE = 2**17  # characters; published ones have up to 10,000
LARGEST_CONFIG = 2**24  # bytes: a tokenizer_config.json may list all added tokens
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class ChatTemplate:
    """A model's template, and the special tokens that it may name (`bos_token` and others)."""

    template: str
    special_tokens: dict[str, str] = field(default_factory=dict)

    def render(self, messages: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
        """`render_chat` with this template."""
        return render_chat(self.template, messages, add_generation_prompt, self.special_tokens)


def render_chat(
    template: str | None,
    messages: list[dict[str, Any]],
    add_generation_prompt: bool = True,
    special_tokens: dict[str, str] | None = None,
) -> str:
    """The text of a conversation, as `template` writes it.

    `messages` are {"role": "system", "user" or "assistant", "content": text}. With
    `add_generation_prompt` the text ends where the answer begins. The result has special tokens in
    it: encode it with `allowed_special="all"`, and think of what a message may contain.

    The template is run in a sandbox, in a process of its own that may use 5 seconds and 512 MB (see
    `chat_sandbox`, also for what that can't prevent). A template that fails, takes longer or
    refuses the messages raises `LessonsError`, and so does a model without one.

    >>> template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|answer|>"
    >>> render_chat(template, [{"role": "user", "content": "Hello"}])
    '<|user|>Hello<|answer|>'
    """
    if template is None:
        remedy = "It is no chat model: give it the beginning of a text instead."
        raise LessonsError("the model has no chat template", remedy=remedy)
    if len(template) > LARGEST_TEMPLATE:
        raise LessonsError(f"over {LARGEST_TEMPLATE:,} characters", where="chat template")
    check_messages(messages)
    variables = {"messages": messages, "add_generation_prompt": add_generation_prompt}
    variables |= {"tools": None, "documents": None} | (special_tokens or {})
    try:
        done = subprocess.run(
            # -P: the folder of the script must not come before Python's own library.
            [sys.executable, "-P", chat_sandbox.__file__],
            input=json.dumps({"template": template, "variables": variables}).encode(),
            capture_output=True,
            timeout=chat_sandbox.SECONDS,
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode != 0:
        what = "it took too long, or too much memory"
        raise LessonsError(what, where="chat template", remedy="Is the file what it should be?")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise LessonsError(answer["error"], where="chat template")
    return answer["text"]


def check_messages(messages: list[dict[str, Any]]) -> None:
    """Raise `LessonsError` for the first message that has no role or no text."""
    for place, message in enumerate(messages):
        is_message = isinstance(message, dict) and all(
            isinstance(message.get(key), str) for key in ("role", "content")
        )
        if not is_message:
            remedy = 'A message is {"role": "user", "content": "…"}.'
            raise LessonsError("no role and content", where=f"messages[{place}]", remedy=remedy)


def load_chat_template(path: Path | str) -> ChatTemplate | None:
    """The chat template of a Hugging Face folder or a GGUF file; None if the model has none."""
    path = Path(path)
    return gguf_template(path) if path.suffix == ".gguf" else folder_template(path)


def folder_template(folder: Path) -> ChatTemplate | None:
    """The template in `chat_template.jinja`, or in `tokenizer_config.json`."""
    document: dict[str, Any] = {}
    if (folder / "tokenizer_config.json").exists():
        document = read_json_file(folder, "tokenizer_config.json", LARGEST_CONFIG)
    template = document.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {entry.get("name"): entry for entry in template if isinstance(entry, dict)}
        template = named.get("default", {}).get("template")
    if (folder / "chat_template.jinja").exists():
        file = file_in_folder(folder, "chat_template.jinja")
        template = read_text(file)
    if template is None:
        return None
    if not isinstance(template, str):
        raise LessonsError("chat_template is no text", where=str(folder / "tokenizer_config.json"))
    special = {}
    for name in SPECIAL:
        token = document.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            special[name] = token
    return ChatTemplate(template, special)


def read_text(path: Path) -> str:
    """The text of a small UTF-8 file."""
    try:
        with path.open("rb") as file:
            return file.read(4 * LARGEST_TEMPLATE + 4).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LessonsError(f"can't read it: {error}", where=str(path)) from None


def gguf_template(path: Path) -> ChatTemplate | None:
    """The template in the metadata of a GGUF file."""
    metadata = read_gguf(path).metadata
    template, tokens = (
        metadata.get("tokenizer.chat_template"),
        metadata.get("tokenizer.ggml.tokens"),
    )
    if not isinstance(template, str):
        return None
    special = {}
    for ours, theirs in {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding"}.items():
        id = metadata.get(f"tokenizer.ggml.{theirs}_token_id")
        if isinstance(tokens, list) and type(id) is int and 0 <= id < len(tokens):
            special[ours] = tokens[id]
    return ChatTemplate(template, special)
