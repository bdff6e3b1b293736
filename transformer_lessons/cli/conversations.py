"""Conversations for `finetune`: what is learned, in which form, and how the result is written."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from transformer_lessons.cli import models
from transformer_lessons.cli.data_source import DataSource, sequence_length
from transformer_lessons.config import CountOrZero, Positive, check_fields
from transformer_lessons.data.batches import IGNORE, CountedBatches
from transformer_lessons.data.pairs import collate
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.support.files import decode_utf8, read_json, replace_file, write_json
from transformer_lessons.tokenizers.tokenizer import Tokenizer
from transformer_lessons.training.chat_data import Example, chat_examples, read_conversations
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.trainer import Batch
from transformer_lessons.weights.chat_template import ChatTemplate, load_chat_template
from transformer_lessons.weights.save_pretrained import save_pretrained

FORM = """{% for m in messages %}{% if m.role == "assistant" %}{{ m.content + "<|endoftext|>\\n" }}
{%- else %}{{ "# " + m.content + "\\n" }}{% endif %}{% endfor %}"""


@dataclass(frozen=True)
class Choices:
    """What is learned, by which model; a run that is resumed has them from its folder."""

    model: str = models.SMALL
    """What to start from: python-small, smollm2-135m, or a folder or file as for `generate`."""
    data: str | None = None
    """A file with a conversation a line: {"messages": [{"role": "user", "content": "…"}, …]}."""
    held_out: str | None = None
    """Judge by another such file; without it, the last tenth of --data is held out."""
    template: str | None = None
    """A file with a chat template (Jinja). By default the model's own; for a model that has none,
    a question becomes "# question", and the line after it is the answer."""
    lora_rank: CountOrZero = 4
    """The rank of the LoRA adapters; 0: none, all weights of the model are trained."""
    lora_alpha: Positive | None = None
    """What the adapters add is multiplied by alpha / rank; by default alpha is 4 x rank."""

    def __post_init__(self) -> None:
        check_fields(self)


def choose_template(given: str | None, model: Path) -> ChatTemplate:
    """The chat template in the file `given`, or the model's own, or `FORM`."""
    if given is None:
        return load_chat_template(model) or ChatTemplate(FORM)
    try:
        return ChatTemplate(decode_utf8(Path(given).read_bytes(), where=given))
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=given) from None


def open_chats(
    choices: Choices, loaded: models.LoadedModel, template: ChatTemplate, training: TrainConfig
) -> tuple[DataSource, list[Batch]]:
    """The conversations to learn from, and batches of those to judge by."""
    if choices.data is None:
        raise LessonsError("no conversations", where="--data", remedy="Give a JSONL file of some.")
    chats = read_conversations(choices.data)
    n_held = max(len(chats) // 10, 1) if choices.held_out is None else 0
    held = chats[len(chats) - n_held :] if n_held else read_conversations(choices.held_out or "")
    chats = chats[: len(chats) - n_held]
    length, tokenizer = sequence_length(loaded.model.config, training), loaded.tokenizer
    (examples, n_cut), (judged, _) = (
        chat_examples(template.render, part, tokenizer, length)  # type: ignore[arg-type]
        for part in (chats, held)
    )
    if not examples or not judged:
        what = "no conversation to learn from, or none to judge by"
        raise LessonsError(what, where=choices.data, remedy="Give more, or longer sequences.")
    name = f"{choices.data}, conversations: {len(examples):,}"
    name += f", targets cut off: {n_cut:,}" if n_cut else ""
    made_of = repr([chats, held, template.template]).encode()
    batches = CountedBatches(partial(chat_batches, examples, training.batch_size, training.seed))
    learned = torch.cat([torch.zeros(1, dtype=torch.long), *(y[y != IGNORE] for _, y in judged)])
    prompt = tokenizer.encode_ordinary(held[0][0]["content"])
    fingerprint = hashlib.sha256(made_of).hexdigest()
    source = DataSource(batches, batches, prompt, name, fingerprint, tokenizer, learned)
    size = training.batch_size
    return source, [collate(judged[i : i + size]) for i in range(0, len(judged), size)]


def chat_batches(examples: Sequence[Example], batch_size: int, seed: int) -> Iterator[Batch]:
    """Endless padded batches, in a new random order each time through; the same for one seed."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for chosen in torch.randperm(len(examples), generator=generator).split(batch_size):
            yield collate([examples[i] for i in chosen])


def export(model: Decoder, tokenizer: Tokenizer, template: ChatTemplate, folder: Path) -> None:
    """Write a model that `chat` opens: weights, tokenizer and chat template."""
    save_pretrained(model, tokenizer, folder)
    replace_file(folder / "chat_template.jinja", template.template)
    facts = read_json(folder / "tokenizer_config.json") | template.special_tokens
    write_json(folder / "tokenizer_config.json", facts, indent=2)
