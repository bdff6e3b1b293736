"""The small print of a checkpoint's files: format, keys, sizes, checksums, tensors in JSON."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import read_json, sha256

FORMAT = 4
KEYS = {"format", "step", "model", "training", "files", "sha256"}
LARGEST_JSON = 16 * 2**20  # bytes: a checkpoint.json of 40,000 tensors; read, it is 20 times that
DAMAGED = "Use an older checkpoint; this one is damaged."


def contents_sha256(about: dict[str, Any]) -> str:
    """The SHA-256 of what `checkpoint.json` says, but for "sha256" itself, with the keys sorted.

    >>> contents_sha256({"step": 1}) == contents_sha256({"sha256": "x", "step": 1})
    True
    """
    contents = {key: value for key, value in about.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def read_checkpoint_json(path: Path) -> dict[str, Any]:
    """The contents of `checkpoint.json`: as they were saved, with the keys that belong there."""
    where = str(path)
    if path.is_file() and path.stat().st_size > LARGEST_JSON:
        raise LessonsError(f"a checkpoint.json of over {LARGEST_JSON:,} bytes", where=where)
    about = read_json(path)
    if isinstance(about, dict) and about.get("format", FORMAT) != FORMAT:
        what = f"a checkpoint of format {about['format']!r}; this version reads format {FORMAT}"
        remedy = "Train again, or load it with the version of the package that saved it."
        raise LessonsError(what, where=where, remedy=remedy)
    if not isinstance(about, dict) or set(about) != KEYS:
        raise LessonsError(f"a checkpoint has the keys {', '.join(sorted(KEYS))}", where=where)
    if about["sha256"] != contents_sha256(about):
        raise LessonsError("changed since it was saved: checksum", where=where, remedy=DAMAGED)
    if type(about["step"]) is not int or about["step"] < 0:
        raise LessonsError(f"step = {about['step']!r} is not a step number", where=where)
    if about["training"] is not None and not isinstance(about["training"], dict):
        raise LessonsError("training is neither null nor a JSON object", where=where)
    return about


def check_files(folder: Path, files: Any, names: set[str]) -> None:
    """Raise `LessonsError` unless the files in `folder` are those that were saved, as `names`.

    `files` has the size and the hash of each. One of another size isn't read; and what is no file,
    a pipe for example, might never end.
    """
    if not isinstance(files, dict) or set(files) != names:
        what = f"files doesn't name {' and '.join(sorted(names))}"
        raise LessonsError(what, where=str(folder / "checkpoint.json"))
    for name, facts in files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        has_size = isinstance(facts, dict) and size is not None and facts.get("bytes") == size
        if not has_size or facts != {"bytes": size, "sha256": sha256(path)}:
            what = "the file is not the one that was saved: size or checksum differ"
            raise LessonsError(what, where=str(path), remedy=DAMAGED)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise LessonsError(f"not a readable safetensors file: {error}", where=str(path)) from None


def read_weights(path: Path, n_parameters: int) -> dict[str, Tensor]:
    """The tensors of a model of so many parameters, as float32 at least; too few aren't read."""
    if n_parameters > path.stat().st_size:  # a number takes a byte at least
        what = "the configuration means more parameters than the file can hold"
        raise LessonsError(what, where=str(path))
    tensors = read_tensors(path)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise LessonsError(f"tensor {name!r} is {tensor.dtype}, no fractions", where=str(path))
    return {name: t.float() if t.element_size() < 4 else t for name, t in tensors.items()}


def check_averages(
    saved: dict[str, dict[str, Tensor]], shapes: Sequence[torch.Size], names: set[str]
) -> None:
    """Raise `LessonsError` unless `saved` has averages of parameters with `shapes`, by number.

    Each parameter has one under each of `names`, in its own shape, but for the count "step".
    """
    for number, tensors in saved.items():
        if not number.isdecimal() or int(number) >= len(shapes):
            what = f"averages of parameter {number}, but there are {len(shapes)}"
            raise LessonsError(what, where="optimizer")
        shape = tuple(shapes[int(number)])
        expected = {name: () if name == "step" else shape for name in names}
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if found != expected:
            what = f"the averages of parameter {number} are {found}, not {expected}"
            raise LessonsError(what, where="optimizer")


def flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON can hold it: tensors go to `tensors`, and leave {"tensor": name} behind.

    >>> tensors = {}
    >>> flatten({"a": [1, torch.tensor([2.0])]}, "state", tensors)
    {'a': [1, {'tensor': 'state.a.1'}]}
    >>> tensors
    {'state.a.1': tensor([2.])}
    """
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {k: flatten(v, f"{name}.{k}", tensors) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [flatten(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]
    return value


def unflatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `flatten`.

    >>> unflatten([1, {"tensor": "state.a"}], {"state.a": torch.tensor([2.0])})
    [1, tensor([2.])]
    """
    if isinstance(value, dict):
        if set(value) == {"tensor"}:
            name = value["tensor"]
            if not isinstance(name, str) or name not in tensors:
                raise LessonsError(f"tensor {name!r} is missing", where="training.safetensors")
            return tensors[name]
        return {k: unflatten(v, tensors) for k, v in value.items()}
    if isinstance(value, list):
        return [unflatten(v, tensors) for v in value]
    return value
