"""`finetune`: a trained model learns from conversations, by LoRA or with all its weights."""

import hashlib
import shlex
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from transformer_lessons import cli, weights
from transformer_lessons.cli import models, run_folder
from transformer_lessons.cli.data_source import DataSource, sequence_length
from transformer_lessons.cli.display import visible
from transformer_lessons.cli.options.runs import Choices, Finetune
from transformer_lessons.cli.training_run import AGAIN, carry_out
from transformer_lessons.data.batches import IGNORE, CountedBatches
from transformer_lessons.data.pairs import collate
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation import Conversation, Sampler
from transformer_lessons.model import Decoder
from transformer_lessons.support.files import read_json, read_text, replace_file, write_json
from transformer_lessons.training.chat_data import Example, chat_examples, read_conversations
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import evaluate
from transformer_lessons.training.trainer import Batch, Trainer
from transformer_lessons.weights.save_pretrained import family_of

FORM = """{% for m in messages %}{% if m.role == "assistant" %}{{ m.content + "<|endoftext|>\\n" }}
{%- else %}{{ "# " + m.content + "\\n" }}{% endif %}{% endfor %}"""


def run(options: Finetune) -> int:
    """Train and save; returns the exit code, as `train` does."""
    console, choices = cli.PlainConsole(), options.source
    device = cli.choose_device(options.device)
    run_folder.check_resume(options.out, options.resume)
    path = models.path_of(Path(choices.model))
    loaded = models.load(path)
    if options.export is not None:  # what can't be written is said before hours of training
        family_of(loaded.model.config)
        if options.export.exists() and any(options.export.iterdir()):
            raise LessonsError("the folder is not empty", where=str(options.export))
    own_template = weights.load_chat_template(path)
    template = own_template or weights.ChatTemplate(FORM)
    if choices.template is not None:
        template = weights.ChatTemplate(read_text(choices.template))
    source, held_out = open_chats(choices, loaded, template, options.training)
    torch.manual_seed(options.training.seed)
    model = loaded.model.to(device)
    if rank := choices.lora_rank:
        model = weights.add_lora(model, rank, choices.lora_alpha or 4 * rank)
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    console.print(f"{n_trained:,} numbers are trained")
    judge = partial(evaluate, model, held_out, source.lengths)
    given = model, options.training, source.batches
    trainer = Trainer(*given, evaluate=judge, data_state=source.state)
    sample = partial(answer, model, source, template)
    if code := carry_out(trainer, source, options, sample, console):
        return code
    write_result(model, source, template, options)
    talk = f"finetune --resume --out {shlex.quote(str(options.out))}"
    talk += " --export FOLDER, and then chat FOLDER"
    if rank and template is own_template:
        adapter = shlex.quote(str(options.out / "adapter"))
        talk = f"chat {shlex.quote(choices.model)} --persona {adapter}"
    elif options.export is not None:
        talk = f"chat {shlex.quote(str(options.export))}"
    console.print(f"Talk with it: {AGAIN} {talk}", soft_wrap=True)
    return 0


def open_chats(
    choices: Choices,
    loaded: models.LoadedModel,
    template: weights.ChatTemplate,
    training: TrainConfig,
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
    fingerprint, size = hashlib.sha256(made_of).hexdigest(), training.batch_size
    source = DataSource(batches, batches, prompt, name, fingerprint, tokenizer, learned)
    return source, [collate(judged[i : i + size]) for i in range(0, len(judged), size)]


def chat_batches(examples: Sequence[Example], batch_size: int, seed: int) -> Iterator[Batch]:
    """Endless padded batches, in a new random order each time through; the same for one seed."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for chosen in torch.randperm(len(examples), generator=generator).split(batch_size):
            yield collate([examples[i] for i in chosen])


def answer(model: Decoder, source: DataSource, template: weights.ChatTemplate) -> str:
    """The held-out question, and what the model answers."""
    question, given = source.tokenizer.decode(source.prompt), (model, source.tokenizer)
    talk = Conversation(*given, template.render, sampler=Sampler(0.0), max_new_tokens=48)
    try:
        return f"{question} -> {visible(talk.say(question).encode())}"
    except LessonsError as error:  # training goes on as long as it can
        return f"no sample: {error.what}"


def write_result(
    model: Decoder, source: DataSource, template: weights.ChatTemplate, options: Finetune
) -> None:
    """The adapters alone, in the run folder, and, where it is asked for, a model `chat` opens."""
    if options.source.lora_rank:
        shutil.rmtree(options.out / "adapter", ignore_errors=True)
        weights.save_lora(model, options.out / "adapter")
        model = weights.merge_lora(model) if options.export is not None else model
    if (folder := options.export) is not None:
        weights.save_pretrained(model, source.tokenizer, folder)
        replace_file(folder / "chat_template.jinja", template.template)
        facts = read_json(folder / "tokenizer_config.json") | template.special_tokens
        write_json(folder / "tokenizer_config.json", facts, indent=2)
