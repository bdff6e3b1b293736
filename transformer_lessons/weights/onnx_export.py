"""A model as an ONNX graph, which runs without PyTorch: onnxruntime, browsers, phones. Lesson 26.

Shapes: L layers, B batch, T new tokens, S tokens before them, K heads of keys and values, d numbers
per head, V vocabulary.
"""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.attention import causal_mask
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference
from transformer_lessons.support.files import new_file

LARGEST = 2**31  # bytes: a protocol buffer can't be longer


class FunctionalCache:
    """A cache as a graph can have it: keys and values are appended, and nothing is overwritten.

    `past` (2, L, B, K, S, d) are keys and values of S tokens; `present` then has S + T.
    """

    def __init__(self, past: Tensor, window: int | None = None) -> None:
        self.past, self.window, self.length = past, window, past.shape[4]
        self.kept: list[Tensor] = []

    def next_inputs(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (T,) and mask (T, S + T) of the next tokens (B, T)."""
        total = self.length + tokens.shape[1]
        mask = causal_mask(total, self.window, tokens.device)
        return torch.arange(self.length, total, device=tokens.device), mask[self.length :]

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append new keys and values (B, K, T, d) to those of a layer; returns all of them."""
        self.kept.append(torch.cat([self.past[:, layer], torch.stack([k, v])], dim=3))
        return self.kept[-1][0], self.kept[-1][1]

    @property
    def present(self) -> Tensor:
        """Keys and values of all S + T tokens."""
        return torch.stack(self.kept, dim=1)


class DecoderStep(nn.Module):
    """(tokens, past) -> (logits, present): a model without memory, whose caller keeps the cache."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        cache: Any = FunctionalCache(past, self.model.config.sliding_window)
        return self.model(tokens, cache), cache.present


def export_onnx(model: Decoder, path: Path | str) -> None:
    """Write `DecoderStep(model)` to the ONNX file `path`, whole or not at all.

    B, T and S are free, S may be 0; tokens are int64. The graph can't refuse more tokens than the
    context holds: its caller counts. A model of over 2 GiB, dynamic RoPE scaling (the graph would
    depend on numbers), and missing packages raise `LessonsError`.
    """
    config, weight = model.config, model.embedding.weight
    if config.rope_scaling is not None and config.rope_scaling.kind == "dynamic":
        raise LessonsError("dynamic scaling is no graph", where="ModelConfig.rope_scaling")
    if sum(p.nbytes for p in model.parameters()) > LARGEST:
        raise LessonsError("over 2 GiB, which one ONNX file can't hold", where="model")
    past = weight.new_zeros(
        2, config.n_layers, 2, config.heads.n_kv_heads, 5, config.heads.head_dim
    )
    batch, new, before = (torch.export.Dim(name) for name in ("batch", "new", "past"))
    logging.disable(logging.WARNING)  # the exporter misses torchvision, which isn't needed
    try:
        with warnings.catch_warnings(), inference(model):
            warnings.simplefilter("ignore")  # about PyTorch's own future
            program: Any = torch.onnx.export(
                DecoderStep(model),
                (weight.new_zeros(2, 3, dtype=torch.int64), past),
                input_names=["tokens", "past"],
                output_names=["logits", "present"],
                dynamic_shapes=({0: batch, 1: new}, {2: batch, 4: before}),
                dynamo=True,
                verbose=False,
            )
    except ImportError as error:
        remedy = "pip install onnx onnxscript"
        raise LessonsError(f"the package {error.name} is missing", remedy=remedy) from None
    finally:
        logging.disable(logging.NOTSET)
    document = program.model_proto
    for node in document.graph.node:  # where each came from: files and lines of this machine
        del node.metadata_props[:]
    del document.graph.value_info[:]
    document.metadata_props.add(key="config", value=json.dumps(config.to_dict()))
    with new_file(Path(path)) as file:
        file.write(document.SerializeToString())
