"""A model on disk, and what training needs to go on: safetensors and JSON, never code. Lesson 14.

A run folder holds one folder a checkpoint, `step-00000400/`, with `model.safetensors`,
`checkpoint.json` and, for a run that is to go on, `training.safetensors`. A checkpoint appears
under its name only when it is complete and on the disk.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from transformer_lessons.config import ModelConfig, config_from_dict
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.accounting import parameter_counts
from transformer_lessons.model.attention import fused_attend
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.state_dict import assign_tensors, check_tensors, own_tensors
from transformer_lessons.support.checkpoint_files import (
    FORMAT,
    check_files,
    contents_sha256,
    flatten,
    read_checkpoint_json,
    read_tensors,
    read_weights,
    unflatten,
)
from transformer_lessons.support.files import sha256, sync_file, sync_folder

UNFINISHED = ".unfinished-"  # how the name of a folder starts that is being written


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: the model, the step it was saved at, and the state of the training."""

    model: Decoder
    step: int
    training: dict[str, Any] | None = None  # of `trainer_state`; None: only the model was saved


def save_checkpoint(
    directory: Path | str, step: int, model: nn.Module, training: dict[str, Any] | None = None
) -> Path:
    """Write `directory/step-…` and return its path; it is complete and on the disk, or not there.

    It is written under another name, flushed, and renamed. What a killed run left behind is
    removed, but no checkpoint is. A failure (a full disk, a step that is there already) raises
    `LessonsError`, and what was there stays as it was. Only one process may save to a folder.

    Any module whose `config` is a dataclass can be saved; `load_checkpoint` makes a `Decoder`.
    """
    directory = Path(directory)
    final, unfinished = directory / f"step-{step:08d}", directory / f"{UNFINISHED}{step:08d}"
    if final.exists():
        remedy = "Save to another folder, or remove it first."
        raise LessonsError("this checkpoint is there already", where=str(final), remedy=remedy)
    try:
        for leftover in directory.glob(f"{UNFINISHED}*"):
            shutil.rmtree(leftover)
        unfinished.mkdir(parents=True)
        write_checkpoint(unfinished, step, model, training)
        os.replace(unfinished, final)
        sync_folder(directory)
    except LessonsError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    except (OSError, SafetensorError, TypeError) as error:  # TypeError: what JSON can't hold
        shutil.rmtree(unfinished, ignore_errors=True)
        what = f"can't save the checkpoint: {error}"
        remedy = "" if isinstance(error, TypeError) else "Free space or choose another folder."
        raise LessonsError(what, where=str(directory), remedy=remedy) from None
    return final


def write_checkpoint(
    folder: Path, step: int, model: nn.Module, training: dict[str, Any] | None
) -> None:
    """Write the files of a checkpoint; `checkpoint.json` vouches for the others, and for itself."""
    config = getattr(model, "config", None)
    if not is_dataclass(config) or isinstance(config, type):
        remedy = "Give the model an attribute `config`, a dataclass that says how it is made."
        raise LessonsError("this model has no config", where=type(model).__name__, remedy=remedy)
    tensors: dict[str, Tensor] = {}
    plain = flatten(training, "training", tensors)
    weights = {name: tensor.contiguous() for name, tensor in own_tensors(model).items()}
    save_file(weights, folder / "model.safetensors")
    if training is not None:
        save_file(tensors, folder / "training.safetensors")
    files = {}
    for path in sorted(folder.iterdir()):
        sync_file(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    about = {"format": FORMAT, "step": step, "model": asdict(config)}
    about |= {"training": plain, "files": files}
    about["sha256"] = contents_sha256(about)
    path = folder / "checkpoint.json"
    path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    sync_file(path)
    sync_folder(folder)


def latest_checkpoint(directory: Path | str) -> Path:
    """The checkpoint of a run folder with the highest step; `LessonsError` if there is none."""
    found = checkpoints(directory)
    if not found:
        remedy = "Train a model first, or give the folder that --out named."
        raise LessonsError("no checkpoint here", where=str(directory), remedy=remedy)
    return found[max(found)]


def checkpoints(directory: Path | str) -> dict[int, Path]:
    """The checkpoints of a run folder, by step, in no order."""
    paths = Path(directory).glob("step-*")
    return {int(path.name[5:]): path for path in paths if path.name[5:].isdecimal()}


def load_checkpoint(path: Path | str, into: nn.Module | None = None) -> Checkpoint:
    """Read a checkpoint, or the latest one of a run folder. The model comes back on the CPU.

    `into` is a module of the same config, which takes the tensors. None: a new `Decoder` does.
    Everything must fit: a file that was changed, and a missing, unknown or misshapen tensor, raise
    `LessonsError`. Numbers of two bytes save room on the disk only: they are widened to float32.
    """
    path = Path(path)
    if not (path / "checkpoint.json").is_file():
        path = latest_checkpoint(path)
    try:
        about = read_checkpoint_json(path / "checkpoint.json")
        names = ["model.safetensors"] + ["training.safetensors"] * (about["training"] is not None)
        check_files(path, about["files"], set(names))
        model, training = about["model"], None
        model = _load_model(model, path) if into is None else _fill(into, model, path)
        if about["training"] is not None:
            tensors = read_tensors(path / "training.safetensors")
            training = unflatten(about["training"], tensors)
    except RecursionError:
        raise LessonsError("nested too deep", where=str(path / "checkpoint.json")) from None
    return Checkpoint(model, about["step"], training)


def _load_model(about: Any, folder: Path) -> Decoder:
    """A new model of the config `about`, with the tensors of a checkpoint: all must fit."""
    where, path = str(folder / "checkpoint.json"), folder / "model.safetensors"
    if isinstance(about, dict) and "base_sha256" in about:
        what, remedy = "adapters without a model", "Write both as one: finetune --resume --export."
        raise LessonsError(what, where=where, remedy=remedy)
    config = ModelConfig.from_dict(about, where=where)
    tensors = read_weights(path, sum(parameter_counts(config).values()))
    with torch.device("meta"):  # names and shapes only: every number comes from the file
        model = Decoder(config, fused_attend)
    check_tensors(model, {name: tensor.shape for name, tensor in tensors.items()}, str(path))
    assign_tensors(model, tensors)
    return model


@torch.no_grad()
def _fill(model: Any, about: Any, folder: Path) -> Any:
    """Give `model` the tensors of a checkpoint of the same config."""
    config, path = model.config, folder / "model.safetensors"
    saved = config_from_dict(type(config), about, where=str(folder / "checkpoint.json"))
    for name, value in vars(config).items():
        if value != getattr(saved, name):
            what = f"{name} = {getattr(saved, name)!r} in the checkpoint, {value!r} here"
            raise LessonsError(what, where=f"{type(config).__name__}.{name}")
    tensors = read_weights(path, 0)
    check_tensors(model, {name: tensor.shape for name, tensor in tensors.items()}, str(path))
    for name, tensor in own_tensors(model).items():
        tensor.copy_(tensors[name])
    return model
