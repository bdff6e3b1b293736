"""A model on disk: its numbers as safetensors, everything else as JSON. Never code.

A run folder holds one folder a checkpoint, `step-00000400/`, with `model.safetensors` and
`checkpoint.json`. A checkpoint appears under its name only when it is complete.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from transformer_lessons.config import ModelConfig, read_json
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: the model and the step it was saved at."""

    model: Decoder
    step: int


def save_checkpoint(directory: Path | str, step: int, model: Decoder) -> Path:
    """Write `directory/step-…` for `model` and return its path; it is complete or not there.

    A failure (a full disk, say) raises `LessonsError` and leaves the folder as it was.
    """
    directory = Path(directory)
    final = directory / f"step-{step:08d}"
    unfinished = directory / f".unfinished-{step:08d}-{os.getpid()}"
    replaced = directory / f".replaced-{step:08d}-{os.getpid()}"
    about = {"format": 1, "step": step, "model": model.config.to_dict()}
    tensors = {name: tensor.contiguous() for name, tensor in own_tensors(model).items()}
    try:
        unfinished.mkdir(parents=True)
        save_file(tensors, unfinished / "model.safetensors")
        text = json.dumps(about, indent=2) + "\n"
        (unfinished / "checkpoint.json").write_text(text, encoding="utf-8")
        if final.exists():  # the old one steps aside, and is only deleted once it is replaced
            final.rename(replaced)
        unfinished.rename(final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if replaced.exists():
            replaced.rename(final)
        what = f"can't save the checkpoint: {error}"
        remedy = "Free space or choose another folder."
        raise LessonsError(what, where=str(directory), remedy=remedy) from None
    shutil.rmtree(replaced, ignore_errors=True)
    return final


def latest_checkpoint(directory: Path | str) -> Path:
    """The checkpoint of a run folder with the highest step; `LessonsError` if there is none."""
    found = [path for path in Path(directory).glob("step-*") if path.name[5:].isdecimal()]
    if not found:
        remedy = "Train a model first, or give the folder that --out named."
        raise LessonsError("no checkpoint here", where=str(directory), remedy=remedy)
    return max(found, key=lambda path: int(path.name[5:]))


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint, or the latest one of a run folder. The model comes back on the CPU.

    Everything must fit: a missing, unknown or misshapen tensor raises `LessonsError`.
    """
    path = Path(path)
    if not (path / "checkpoint.json").exists():
        path = latest_checkpoint(path)
    about = read_json(path / "checkpoint.json")
    where = str(path / "checkpoint.json")
    if not isinstance(about, dict) or set(about) != {"format", "step", "model"}:
        raise LessonsError("a checkpoint has the keys format, step and model", where=where)
    if about["format"] != 1:
        raise LessonsError(f"format {about['format']!r} is not 1", where=where)
    if type(about["step"]) is not int or about["step"] < 0:
        raise LessonsError(f"step = {about['step']!r} is not a step number", where=where)
    config = ModelConfig.from_dict(about["model"], where=where)
    with torch.device("meta"):  # names and shapes only: every number comes from the file
        model = Decoder(config)
    load_weights(model, path / "model.safetensors")
    return Checkpoint(model, about["step"])


def load_weights(model: Decoder, path: Path) -> None:
    """Give `model` the tensors of a safetensors file; names and shapes must match exactly."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise LessonsError(f"not a readable safetensors file: {error}", where=str(path)) from None
    check_tensors(model, {name: tensor.shape for name, tensor in tensors.items()}, str(path))
    assign_tensors(model, tensors)


def own_tensors(model: Decoder) -> dict[str, Tensor]:
    """The state dict, in which a head that shares the embedding's matrix doesn't repeat it."""
    tensors = model.state_dict()
    if model.config.tie_embeddings:
        del tensors["head.weight"]
    return tensors


def assign_tensors(model: Decoder, tensors: dict[str, Tensor]) -> None:
    """The inverse of `own_tensors`: make `tensors` the model's own, and share what was shared."""
    if model.config.tie_embeddings:
        tensors = tensors | {"head.weight": tensors["embedding.weight"]}
    model.load_state_dict(tensors, strict=True, assign=True)
    if model.config.tie_embeddings:
        model.head.weight = model.embedding.weight


def check_tensors(model: Decoder, shapes: dict[str, torch.Size], where: str) -> None:
    """Raise `LessonsError` naming the first tensor that is missing, unknown or misshapen."""
    expected = {name: tensor.shape for name, tensor in own_tensors(model).items()}
    for name in sorted(expected.keys() | shapes.keys()):
        if name not in shapes:
            raise LessonsError(f"tensor {name!r} is missing", where=where)
        if name not in expected:
            raise LessonsError(f"tensor {name!r} is not part of this model", where=where)
        if shapes[name] != expected[name]:
            what = f"tensor {name!r} is {tuple(shapes[name])}, not {tuple(expected[name])}"
            raise LessonsError(what, where=where)
