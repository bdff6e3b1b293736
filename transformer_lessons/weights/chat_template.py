"""The chat template of a model: in what form it has seen conversations in training. Lesson 20."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.gguf_file import read_gguf
from transformer_lessons.support.safetensors_files import file_in_folder, read_json_file
from transformer_lessons.support.template_sandbox import render_template

LARGEST_TEMPLATE = 2**16  # characters; published ones have up to 20,000
LARGEST_CONFIG = 2**24  # bytes: a tokenizer_config.json may list all added tokens


@dataclass(frozen=True)
class ChatTemplate:
    """A model's template, and the special tokens that it may name (`bos_token` and others)."""

    template: str
    special_tokens: dict[str, str] = field(default_factory=dict)

    def render(self, messages: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
        """The text of a conversation, as the template writes it.

        `messages` are {"role": "system", "user" or "assistant", "content": text}. With
        `add_generation_prompt` the text ends where the answer begins. It has special tokens in it:
        encode it with `allowed_special="all"`, and think of what a message may contain.

        The template runs in `template_sandbox`. One that fails, takes too much work or refuses the
        messages raises `LessonsError`.

        >>> form = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|answer|>"
        >>> ChatTemplate(form).render([{"role": "user", "content": "Hello"}])
        '<|user|>Hello<|answer|>'
        """
        for place, message in enumerate(messages):
            known = message if isinstance(message, dict) else {}
            if not all(isinstance(known.get(key), str) for key in ("role", "content")):
                remedy = 'A message is {"role": "user", "content": "…"}.'
                raise LessonsError("no role and content", where=f"messages[{place}]", remedy=remedy)
        variables: dict[str, Any] = {
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
        }
        variables |= {"tools": None, "documents": None} | self.special_tokens
        try:
            if len(self.template) > LARGEST_TEMPLATE:
                raise ValueError(f"over {LARGEST_TEMPLATE:,} characters")
            return render_template(self.template, variables)
        except Exception as error:  # of whatever kind: the program is somebody else's
            what = f"{type(error).__name__}: {error}"[:500]
            raise LessonsError(what, where="chat template") from None


def load_chat_template(path: Path | str) -> ChatTemplate | None:
    """The chat template of a Hugging Face folder or a GGUF file; None if the model has none."""
    path = Path(path)
    return _gguf_template(path) if path.suffix.lower() == ".gguf" else _folder_template(path)


def _folder_template(folder: Path) -> ChatTemplate | None:
    """The template in `chat_template.jinja`, or in `tokenizer_config.json`."""
    facts: dict[str, Any] = {}
    if (folder / "tokenizer_config.json").exists():
        facts = read_json_file(folder, "tokenizer_config.json", LARGEST_CONFIG)
    template = facts.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {entry.get("name"): entry for entry in template if isinstance(entry, dict)}
        template = named.get("default", {}).get("template")
    if (folder / "chat_template.jinja").exists():
        path = file_in_folder(folder, "chat_template.jinja")
        try:
            with path.open("rb") as file:
                template = file.read(4 * LARGEST_TEMPLATE + 4).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LessonsError(f"can't read it: {error}", where=str(path)) from None
    if not isinstance(template, str | None):
        raise LessonsError("chat_template is no text", where=str(folder / "tokenizer_config.json"))
    tokens = {
        name: facts.get(name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")
    }
    tokens |= {name: t.get("content") for name, t in tokens.items() if isinstance(t, dict)}
    special = {name: t for name, t in tokens.items() if isinstance(t, str)}
    return None if template is None else ChatTemplate(template, special)


def _gguf_template(path: Path) -> ChatTemplate | None:
    """The template in the metadata of a GGUF file."""
    metadata = read_gguf(path).metadata
    template, tokens = (metadata.get(f"tokenizer.{x}") for x in ("chat_template", "ggml.tokens"))
    special = {}
    for ours, theirs in {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding"}.items():
        id = metadata.get(f"tokenizer.ggml.{theirs}_token_id")
        if isinstance(tokens, list) and type(id) is int and 0 <= id < len(tokens):
            special[ours] = tokens[id]
    return ChatTemplate(template, special) if isinstance(template, str) else None
