"""What each command can be asked, and how it is read. Nothing here loads PyTorch, which takes long:
the options are read before the command's module is imported, so help and refusals come at once.
"""

import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, get_args, get_type_hints

import tyro

from transformer_lessons.cli.options import data, models, runs
from transformer_lessons.config import Allowed, config_from_dict
from transformer_lessons.data.config import DataConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.presets import preset
from transformer_lessons.support.files import read_json
from transformer_lessons.training.config import train_preset

KINDS: dict[str, Any] = {  # the options of each command: a dataclass, or one of a dict of them
    "demo": models.Demo,
    "download": {"fineweb": data.FineWeb, models.SMOLLM2: data.SmolLM2},
    "prepare": data.Prepare,
    "tokenizer": {"train": data.TrainTokenizer, "encode": data.Encode},
    "train": runs.Train,
    "finetune": runs.Finetune,
    "evaluate": models.Evaluate,
    "generate": models.Generate,
    "chat": models.Chat,
    "export": models.Export,
    "inspect": models.Inspect,
    "doctor": models.Doctor,
}


def read_options(command: str, arguments: Sequence[str]) -> Any:
    """The options of a command; values that their annotations forbid raise `LessonsError`."""
    kinds, framed = KINDS[command], StringIO()
    prog = f"python -m transformer_lessons {command}"
    given = dict[str, Any](args=list(arguments), prog=prog)
    try:
        with redirect_stderr(framed):
            if isinstance(kinds, dict):
                options: Any = tyro.extras.subcommand_cli_from_dict(kinds, **given)
            else:
                default = defaults_of(command, arguments)
                # A field that may hold a nested config (rope_scaling) would become a subcommand.
                plain = (tyro.conf.AvoidSubcommands,)
                options = tyro.cli(kinds, default=default, config=plain, **given)
    except SystemExit as stopped:  # tyro has framed what it refuses; ours is raised as it is
        error = stopped.__context__
        while error is not None and not isinstance(error, LessonsError):
            error = error.__context__
        if error is not None:
            raise error from None
        print(framed.getvalue(), end="", file=sys.stderr)
        raise
    check(options)
    return options


def check(options: Any) -> None:
    """Raise `LessonsError` for the first option with a value that its rule (`Allowed`) forbids."""
    for name, declared in get_type_hints(type(options), include_extras=True).items():
        value, parts = getattr(options, name), (declared, *get_args(declared))
        for rule in (rule for part in parts for rule in getattr(part, "__metadata__", ())):
            if isinstance(rule, Allowed) and value is not None and not rule.is_ok(value):
                what, where = f"{name} = {value!r} is not {rule.words}", name.replace("_", "-")
                raise LessonsError(what, where=f"--{where}")


def defaults_of(command: str, arguments: Sequence[str]) -> Any:
    """The options of a command before any is given, where these follow from one that is read first:
    a preset, a file, or the run to resume. None: as the dataclass says.
    """
    # What a class doesn't have is passed over.
    first = partial(tyro.cli, args=list(arguments), return_unknown_args=True, add_help=False)
    if command == "prepare" and (file := first(data.First)[0].config) is not None:
        return data.Prepare(data=DataConfig.from_dict(read_json(file), where=str(file)))
    if command == "train":
        given: runs.First = first(runs.First)[0]
        name = given.preset
        default = runs.Train(preset=name, model=preset(name), training=train_preset(name))
        file = given.out / "config.json" if given.resume else given.config
        return default if file is None else with_config(default, file)
    if command == "finetune":
        folder: runs.RunFolder = first(runs.RunFolder)[0]
        if folder.resume:
            return with_config(runs.Finetune(), folder.out / "config.json")
        if not first(runs.Choices)[0].lora_rank:  # of all weights at once, each moves less
            slow = replace(runs.CHOICES, learning_rate=1e-4, min_learning_rate=1e-5)
            return runs.Finetune(training=slow)
    return None


def with_config(default: Any, file: Path) -> Any:
    """The options `default` of a command, with the values of a JSON file in place of its own.

    A run's config.json has "model", "training" and "data", whose "source" are options.
    """
    values, where = read_json(file), str(file)
    if not isinstance(values, dict) or not values.keys() <= {"model", "training", "data"}:
        raise LessonsError('a config has the keys "model", "training" and "data"', where=where)
    for key, value in values.items():
        if not isinstance(value, dict):
            raise LessonsError(f'"{key}" is not a JSON object', where=where)
    source = config_from_dict(type(default.source), values.get("data", {}).get("source", {}), where)
    default = replace(default, source=source)
    for name in ("model", "training"):
        if config := getattr(default, name, None):
            merged = config.to_dict() | values.get(name, {})
            default = replace(default, **{name: type(config).from_dict(merged, where=where)})
    return default
