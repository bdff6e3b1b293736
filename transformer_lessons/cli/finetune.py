"""`finetune`: a trained model learns from conversations, by LoRA or with all its weights."""

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import tyro

from transformer_lessons import cli
from transformer_lessons.cli import models, run_folder
from transformer_lessons.cli.conversations import Choices, choose_template, export, open_chats
from transformer_lessons.cli.data_source import DataSource
from transformer_lessons.cli.display import visible
from transformer_lessons.cli.training_run import AGAIN, RunFolder, carry_out
from transformer_lessons.config import config_from_dict
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.conversation import Conversation
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.support.files import read_json
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import evaluate, token_lengths
from transformer_lessons.training.trainer import Trainer
from transformer_lessons.weights.chat_template import ChatTemplate, load_chat_template
from transformer_lessons.weights.lora import add_lora, merge_lora, save_lora
from transformer_lessons.weights.save_pretrained import family_of


@dataclass(frozen=True)
class Finetune(RunFolder):
    """Train a model further, on conversations: by LoRA, two thin matrices beside each, or whole."""

    choices: Annotated[Choices, tyro.conf.arg(name="")] = field(default_factory=Choices)
    export: Path | None = None
    """Write the result here as well, as one model: a Hugging Face folder, adapters merged in."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    training: TrainConfig = field(default_factory=TrainConfig)
    """Choices of the run."""


def parse(arguments: Sequence[str]) -> Finetune:
    """The options; defaults follow from --lora-rank, or come from the run to resume."""
    folder: RunFolder = cli.parse(RunFolder, arguments, "finetune", early=True)
    early: Choices = cli.parse(Choices, arguments, "finetune", early=True)
    rate = 2e-3 if early.lora_rank else 1e-4  # of all weights at once, each moves less
    training = TrainConfig(steps=32, batch_size=8, learning_rate=rate, min_learning_rate=rate / 10,
                           warmup_steps=4, precision="bf16", eval_every=16)  # fmt: skip
    default = Finetune(training=training)
    if folder.resume:
        file = str(folder.out / "config.json")
        try:
            values = read_json(Path(file))
            source, kept = values["data"]["source"], values["training"]
        except (KeyError, TypeError):
            raise LessonsError("not the config of a run", where=file) from None
        choices = config_from_dict(Choices, source, file)
        default = Finetune(choices=choices, training=TrainConfig.from_dict(kept, file))
    return cli.parse(Finetune, arguments, "finetune", default)


def run(arguments: Sequence[str]) -> int:
    """Train and save; returns the exit code, as `train` does."""
    options, console = parse(arguments), cli.PlainConsole()
    choices, device = options.choices, cli.choose_device(options.device)
    run_folder.check_resume(options.out, options.resume)
    path = Path(choices.model)
    if choices.model in (models.SMALL, models.SMOLLM2) and not path.exists():
        path = models.find_model(choices.model)
    loaded = models.load(path)
    if options.export is not None:  # what can't be written is said before hours of training
        family_of(loaded.model.config)
        if options.export.exists() and any(options.export.iterdir()):
            raise LessonsError("the folder is not empty", where=str(options.export))
    template = choose_template(choices.template, path)
    source, held_out = open_chats(choices, loaded, template, options.training)
    torch.manual_seed(options.training.seed)
    model = loaded.model.to(device)
    if rank := choices.lora_rank:
        model = add_lora(model, rank, choices.lora_alpha or 4 * rank)
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    console.print(f"{n_trained:,} numbers are trained")
    judge = partial(evaluate, model, held_out, token_lengths(loaded.tokenizer))
    given = model, options.training, source.batches
    trainer = Trainer(*given, evaluate=judge, data_state=source.state)
    sample = partial(answer, model, source, template)
    data = {"source": asdict(choices)}
    if code := carry_out(trainer, source, options, data, sample, console):
        return code
    write_result(model, source, template, options)
    talk = f"{AGAIN} chat "
    if rank and choices.template is None and load_chat_template(path):
        talk += (
            f"{shlex.quote(choices.model)} --persona {shlex.quote(str(options.out / 'adapter'))}"
        )
    elif options.export is not None:
        talk += shlex.quote(str(options.export))
    else:
        talk = f"{AGAIN} finetune --resume --out {shlex.quote(str(options.out))}"
        talk += " --export FOLDER, and then chat FOLDER"
    console.print(f"Talk with it: {talk}", soft_wrap=True)
    return 0


def answer(model: Decoder, source: DataSource, template: ChatTemplate) -> str:
    """The held-out question, and what the model answers."""
    question, given = source.tokenizer.decode(source.prompt), (model, source.tokenizer)
    talk = Conversation(*given, template.render, sampler=Sampler(0.0), max_new_tokens=48)
    try:
        return f"{question} -> {visible(talk.say(question).encode())}"
    except LessonsError as error:  # training goes on as long as it can
        return f"no sample: {error.what}"


def write_result(
    model: Decoder, source: DataSource, template: ChatTemplate, options: Finetune
) -> None:
    """The adapters alone, in the run folder, and, where it is asked for, the whole model."""
    if options.choices.lora_rank:
        shutil.rmtree(options.out / "adapter", ignore_errors=True)
        save_lora(model, options.out / "adapter")
        model = merge_lora(model) if options.export is not None else model
    if options.export is not None:
        export(model, source.tokenizer, template, options.export)
