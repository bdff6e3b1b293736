"""A model as one JSON file, which the book's pages run in JavaScript. Lesson 1.

    {"format": "transformer_lessons/1",
     "config": {"vocab_size": 256, ...},
     "weights": {"embedding.weight": {"shape": [256, 4], "data": [0.018, ...]}, ...}}

The config is `ModelConfig.to_dict()`, the names are those of the state dict, and `data` holds the
numbers of a tensor row by row. JSON suits small models only: a number takes about 11 bytes.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.state_dict import own_tensors
from transformer_lessons.support.files import write_json

FORMAT = "transformer_lessons/1"


def export_json(model: Decoder, path: Path | str) -> None:
    """Write `model` to the JSON file `path`; the file is replaced whole or left as it was.

    Every number can be read back bit for bit. Weights that are not float32, or not finite, and a
    path that can't be written raise `LessonsError`.

    >>> import json, tempfile
    >>> from transformer_lessons.presets import preset
    >>> model = Decoder(preset("fluctlight"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_json(model, f"{folder}/model.json")
    ...     document = json.loads(Path(f"{folder}/model.json").read_text())
    >>> document["weights"]["final_norm.weight"]
    {'shape': [4], 'data': [1.0, 1.0, 1.0, 1.0]}
    """
    weights = {
        name: {"shape": list(tensor.shape), "data": _numbers(name, tensor)}
        for name, tensor in own_tensors(model).items()
    }
    document = {"format": FORMAT, "config": model.config.to_dict(), "weights": weights}
    write_json(Path(path), document)


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
