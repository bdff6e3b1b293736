"""A model as one JSON file, which the book's pages run in JavaScript. Lesson 1.

    {"format": "transformer_lessons/1",
     "config": {"vocab_size": 256, ...},
     "weights": {"embedding.weight": {"shape": [256, 4], "data": [0.018, ...]}, ...}}

The config is `ModelConfig.to_dict()`, the names are those of the state dict, and `data` holds the
numbers of a tensor row by row. JSON suits small models only: a number takes about 11 bytes.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.state_dict import own_tensors
from transformer_lessons.support.files import read_json, replace_file
from transformer_lessons.weights.assemble import assemble
from transformer_lessons.weights.name_maps import own_names

FORMAT = "transformer_lessons/1"


def export_json(model: Decoder, path: Path | str) -> None:
    """Write `model` to the JSON file `path`; the file is replaced whole or left as it was.

    `load_json` gives back the same weights, bit for bit. Weights that are not float32, or not
    finite, and a path that can't be written raise `LessonsError`.

    >>> import tempfile
    >>> from transformer_lessons.presets import preset
    >>> model = Decoder(preset("fluctlight"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_json(model, f"{folder}/model.json")
    ...     again = load_json(f"{folder}/model.json")
    >>> torch.equal(again.head.weight, model.head.weight)
    True
    """
    weights = {
        name: {"shape": list(tensor.shape), "data": _numbers(name, tensor)}
        for name, tensor in own_tensors(model).items()
    }
    document = {"format": FORMAT, "config": model.config.to_dict(), "weights": weights}
    replace_file(Path(path), json.dumps(document, allow_nan=False) + "\n")


def load_json(path: Path | str) -> Decoder:
    """The model that `export_json` wrote to `path`, on the CPU.

    Everything must fit: a file that is not this format, a missing, unknown or misshapen tensor, or
    a number that float32 can't hold raises `LessonsError` and names the field.
    """
    where, document = str(path), read_json(path)
    if not isinstance(document, dict) or set(document) != {"format", "config", "weights"}:
        what, remedy = "not a model with format, config and weights", "Make it with export_json."
        raise LessonsError(what, where=where, remedy=remedy)
    if document["format"] != FORMAT:
        raise LessonsError(f"format {document['format']!r} is not {FORMAT!r}", where=where)
    config, weights = ModelConfig.from_dict(document["config"], where), document["weights"]
    if not isinstance(weights, dict):
        raise LessonsError("weights is not an object with a tensor a name", where=where)
    tensors = {name: _tensor(name, entry, where) for name, entry in weights.items()}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return assemble(config, own_names, shapes, tensors.__getitem__, where=where)


def _numbers(name: str, tensor: Tensor) -> list[float]:
    """The numbers of a float32 tensor, row by row, each as short as it can be written."""
    if tensor.dtype != torch.float32:
        what, remedy = f"{tensor.dtype} is not float32", "Export model.float()."
        raise LessonsError(what, where=f"tensor {name!r}", remedy=remedy)
    if not tensor.isfinite().all():
        remedy = "Train again: the loss has probably become nan, try a lower learning rate."
        raise LessonsError("it holds inf or nan", where=f"tensor {name!r}", remedy=remedy)
    return [_shortest(number) for number in tensor.detach().cpu().flatten().numpy()]


def _shortest(number: np.float32) -> float:
    # numpy writes the fewest digits that single out a float32 (0.1, not 0.10000000149011612).
    # A reader goes by way of float64, and two roundings might, rarely, miss: then write it in full.
    short = float(str(number))
    return short if np.float32(short) == number else float(number)


def _tensor(name: str, entry: Any, where: str) -> Tensor:
    """One entry of "weights" as a float32 tensor, its numbers checked one by one."""
    where = f"{where}, tensor {name!r}"
    if not isinstance(entry, dict) or set(entry) != {"shape", "data"}:
        raise LessonsError("a tensor has shape and data", where=where)
    shape, data = entry["shape"], entry["data"]
    if not isinstance(shape, list) or not all(type(n) is int and n >= 1 for n in shape):
        raise LessonsError(f"shape = {shape!r} is not a list of sizes", where=where)
    if not isinstance(data, list) or len(data) != math.prod(shape):
        what = f"data does not hold the {math.prod(shape)} numbers of its shape"
        raise LessonsError(what, where=where)
    too_large = 2.0**128 - 2.0**103  # from here on, float32 rounds to infinity
    for place, number in enumerate(data):
        if type(number) not in (int, float) or not -too_large < number < too_large:
            what = f"{str(number)[:40]} is not a number that float32 can hold"
            raise LessonsError(what, where=f"{where}, data[{place}]")
    return torch.tensor(data, dtype=torch.float64).float().reshape(shape)
