"""A model on disk, and what training needs to go on: safetensors and JSON, never code.

A run folder holds one folder a checkpoint, `step-00000400/`, with `model.safetensors`,
`checkpoint.json` and, for a run that is to go on, `training.safetensors`. A checkpoint appears
under its name only when it is complete and on the disk.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.accounting import parameter_counts
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.state_dict import assign_tensors, check_tensors, own_tensors
from transformer_lessons.support.files import read_json, sha256, sync_file, sync_folder
from transformer_lessons.training.state import flatten_tensors, unflatten_tensors

FORMAT = 4
KEYS = {"format", "step", "model", "training", "files", "sha256"}
LARGEST_JSON = 16 * 2**20  # bytes: a checkpoint.json of 40,000 tensors; read, it is 20 times that
UNFINISHED = ".unfinished-"  # how the name of a folder starts that is being written
DAMAGED = "Use an older checkpoint; this one is damaged."


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: the model, the step it was saved at, and the state of the training."""

    model: Decoder
    step: int
    training: dict[str, Any] | None = None  # of `trainer_state`; None: only the model was saved


def save_checkpoint(
    directory: Path | str, step: int, model: Decoder, training: dict[str, Any] | None = None
) -> Path:
    """Write `directory/step-…` and return its path; it is complete and on the disk, or not there.

    It is written under another name, flushed, and renamed. What a killed run left behind is
    removed. A failure (a full disk, a step that is there already) raises `LessonsError`, and what
    was there stays as it was. Only one process may save to a folder.
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
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        what = f"can't save the checkpoint: {error}"
        remedy = "Free space or choose another folder."
        raise LessonsError(what, where=str(directory), remedy=remedy) from None
    return final


def write_checkpoint(
    folder: Path, step: int, model: Decoder, training: dict[str, Any] | None
) -> None:
    """Write the files of a checkpoint; `checkpoint.json` vouches for the others, and for itself."""
    tensors: dict[str, Tensor] = {}
    plain = flatten_tensors(training, "training", tensors)
    weights = {name: tensor.contiguous() for name, tensor in own_tensors(model).items()}
    save_file(weights, folder / "model.safetensors")
    if training is not None:
        save_file(tensors, folder / "training.safetensors")
    files = {}
    for path in sorted(folder.iterdir()):
        sync_file(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    about = {"format": FORMAT, "step": step, "model": model.config.to_dict()}
    about |= {"training": plain, "files": files}
    about["sha256"] = contents_sha256(about)
    path = folder / "checkpoint.json"
    path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    sync_file(path)
    sync_folder(folder)


def contents_sha256(about: dict[str, Any]) -> str:
    """The SHA-256 of what `checkpoint.json` says, but for "sha256" itself, with the keys sorted.

    >>> contents_sha256({"step": 1}) == contents_sha256({"sha256": "x", "step": 1})
    True
    """
    contents = {key: value for key, value in about.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


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


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint, or the latest one of a run folder. The model comes back on the CPU.

    Everything must fit: a file that was changed, and a missing, unknown or misshapen tensor, raise
    `LessonsError`.
    """
    path = Path(path)
    if not (path / "checkpoint.json").is_file():
        path = latest_checkpoint(path)
    about = read_about(path / "checkpoint.json")
    check_files(path, about["files"], with_training=about["training"] is not None)
    config = ModelConfig.from_dict(about["model"], where=str(path / "checkpoint.json"))
    check_size(config, path / "model.safetensors")
    with torch.device("meta"):  # names and shapes only: every number comes from the file
        model = Decoder(config)
    load_weights(model, path / "model.safetensors")
    training = about["training"]
    if training is not None:
        tensors = read_tensors(path / "training.safetensors")
        try:
            training = unflatten_tensors(training, tensors)
        except RecursionError:
            raise LessonsError("nested too deep", where=str(path / "checkpoint.json")) from None
    return Checkpoint(model, about["step"], training)


def read_about(path: Path) -> dict[str, Any]:
    """The contents of `checkpoint.json`: as they were saved, with the keys that belong there."""
    where = str(path)
    if path.is_file() and path.stat().st_size > LARGEST_JSON:
        raise LessonsError(f"a checkpoint.json of over {LARGEST_JSON:,} bytes", where=where)
    about = read_json(path)
    if isinstance(about, dict) and about.get("format", FORMAT) != FORMAT:
        raise LessonsError(f"format {about['format']!r} is not {FORMAT}", where=where)
    if not isinstance(about, dict) or set(about) != KEYS:
        raise LessonsError(f"a checkpoint has the keys {', '.join(sorted(KEYS))}", where=where)
    try:
        is_whole = about["sha256"] == contents_sha256(about)
    except RecursionError:
        raise LessonsError("nested too deep", where=where) from None
    if not is_whole:
        raise LessonsError("changed since it was saved: checksum", where=where, remedy=DAMAGED)
    if type(about["step"]) is not int or about["step"] < 0:
        raise LessonsError(f"step = {about['step']!r} is not a step number", where=where)
    if about["training"] is not None and not isinstance(about["training"], dict):
        raise LessonsError("training is neither null nor a JSON object", where=where)
    return about


def check_files(folder: Path, files: Any, with_training: bool) -> None:
    """Raise `LessonsError` for the first file that is not the one that was saved."""
    names = {"model.safetensors"} | ({"training.safetensors"} if with_training else set())
    if not isinstance(files, dict) or set(files) != names:
        what = f"files doesn't name {' and '.join(sorted(names))}"
        raise LessonsError(what, where=str(folder / "checkpoint.json"))
    for name, facts in files.items():
        if not is_as_saved(folder / name, facts):
            what = "the file is not the one that was saved: size or checksum differ"
            raise LessonsError(what, where=str(folder / name), remedy=DAMAGED)


def is_as_saved(path: Path, facts: Any) -> bool:
    """Whether `path` has the size and the hash in `facts`; of another size, it isn't read."""
    if not path.is_file() or not isinstance(facts, dict):  # reading a pipe might never end
        return False
    size = path.stat().st_size
    return facts.get("bytes") == size and facts == {"bytes": size, "sha256": sha256(path)}


def check_size(config: ModelConfig, path: Path) -> None:
    """Raise `LessonsError` unless `path` can hold a model of `config`, before any is built."""
    n_parameters = sum(parameter_counts(config).values())
    if n_parameters > path.stat().st_size:  # a number takes a byte at least
        what = "the configuration means more parameters than the file can hold"
        raise LessonsError(what, where=str(path))


def load_weights(model: Decoder, path: Path) -> None:
    """Give `model` the tensors of a safetensors file; names and shapes must match exactly.

    Numbers of two bytes save room on the disk only: they are widened to float32.
    """
    tensors = read_tensors(path)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise LessonsError(f"tensor {name!r} is {tensor.dtype}, no fractions", where=str(path))
    tensors = {name: t.float() if t.element_size() < 4 else t for name, t in tensors.items()}
    check_tensors(model, {name: tensor.shape for name, tensor in tensors.items()}, str(path))
    assign_tensors(model, tensors)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise LessonsError(f"not a readable safetensors file: {error}", where=str(path)) from None
