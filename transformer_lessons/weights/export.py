"""A model as one JSON file, which the book's pages run in JavaScript. Lessons 1 and 20.

    {"format": "transformer_lessons/1",
     "config": {"vocab_size": 256, ...},
     "weights": {"embedding.weight": {"shape": [256, 4], "data": [0.018, ...]}, ...}}

The config is `ModelConfig.to_dict()`, the names are those of the state dict, and `data` holds the
numbers of a tensor row by row. JSON suits small models only: a number takes about 11 bytes.
"""

import base64
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.state_dict import own_tensors
from transformer_lessons.support.files import read_json, write_json
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tokenizer import Tokenizer
from transformer_lessons.weights.quantize import round_to_groups

FORMAT, PAGE_FORMAT = "transformer_lessons/1", "transformer_lessons/page-1"
# What the page can't run, and must therefore be as it is here.
PAGE_RUNS = {"norm_placement": "pre", "rope_scaling": None}


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
    _check_finite(name, tensor)
    return [_shortest(number) for number in tensor.detach().cpu().flatten().numpy()]


def _check_finite(name: str, tensor: Tensor) -> None:
    if not tensor.isfinite().all():
        remedy = "Train again: the loss has probably become nan, try a lower learning rate."
        raise LessonsError("it holds inf or nan", where=f"tensor {name!r}", remedy=remedy)


def _shortest(number: np.float32) -> float:
    # numpy writes the fewest digits that single out a float32 (0.1, not 0.10000000149011612).
    # A reader goes by way of float64, and two roundings might, rarely, miss: then write it in full.
    short = float(str(number))
    return short if np.float32(short) == number else float(number)


def export_page_model(model: Decoder, tokenizer: Tokenizer, path: Path | str) -> None:
    """Write `model` and `tokenizer` to a file for the page "Follow a text through the model".

    {"format": "transformer_lessons/page-1", "config": {...}, "tokenizer": what `save` writes,
     "weights": {"head.weight": {"shape": [V, D], "int8": "...", "scale": "..."}, ...}}

    Matrices are rounded to int8, with a scale for each row; vectors are "float32". All of it
    is little-endian and in base64: a weight takes 1.34 bytes. A model that the page can't run, a
    tokenizer that it doesn't know or that has more tokens than the model, and numbers that are not
    finite, raise `LessonsError`.
    """
    for name, value in PAGE_RUNS.items():
        if (found := getattr(model.config, name)) != value:
            raise LessonsError(f"the page can't run {name} = {found!r}", where="ModelConfig")
    if not isinstance(tokenizer, ByteTokenizer | BPETokenizer):
        what, remedy = f"the page has no {type(tokenizer).__name__}", "Use a BPETokenizer."
        raise LessonsError(what, where="tokenizer", remedy=remedy)
    if tokenizer.n_vocab > model.config.vocab_size:
        what = f"{tokenizer.n_vocab} tokens, but the model has {model.config.vocab_size}"
        raise LessonsError(what, where="tokenizer", remedy="Is it another model's?")
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder) / "tokenizer.json")
        document = {
            "format": PAGE_FORMAT,
            "config": model.config.to_dict(),
            "tokenizer": read_json(Path(folder) / "tokenizer.json"),
            "weights": {name: _packed(name, tensor) for name, tensor in own_tensors(model).items()},
        }
    write_json(Path(path), document)


def _packed(name: str, tensor: Tensor) -> dict[str, list[int] | str]:
    """A matrix as int8 with a scale for each row, a vector as float32; bytes as base64."""
    _check_finite(name, tensor)
    parts = {"float32": tensor.detach().float()}
    if tensor.ndim == 2:
        rows = round_to_groups(tensor.detach(), 8, tensor.shape[1], True, torch.float32)
        parts = {"int8": (rows.q.int() - 127).to(torch.int8), "scale": rows.scale[:, 0]}
    packed: dict[str, list[int] | str] = {"shape": list(tensor.shape)}
    for kind, part in parts.items():
        numbers = part.cpu().numpy()
        little_endian = numbers.astype(numbers.dtype.newbyteorder("<"))
        packed[kind] = base64.b64encode(little_endian.tobytes()).decode("ascii")
    return packed
