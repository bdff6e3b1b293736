"""LoRA: fine-tuning with two small matrices beside each large one. Lesson 22.

Shapes: V rows and D columns of a weight matrix, r the rank; x (..., D) becomes (..., V).
Source: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.
"""

import copy
import hashlib
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.support.checkpoint_files import read_tensors
from transformer_lessons.support.files import field, new_folder, write_json
from transformer_lessons.support.safetensors_files import file_in_folder, read_json_file
from transformer_lessons.weights.quantize import Int8Linear

FACTS, TENSORS = "adapter.json", "adapter.safetensors"
FORMAT = "transformer_lessons/lora/2"
LARGEST_FACTS = 2**20  # bytes: the names of 10,000 layers


@dataclass(frozen=True)
class LoraConfig:
    """What adapters are: how they are made, beside which layers of which base."""

    base_sha256: str  # of the weights without the adapters
    rank: int
    alpha: float
    layers: list[str]


class LoraLinear(nn.Module):
    """y = layer(x) + (alpha / rank) B A x: `layer` stays as it is, A (r, D) and B (V, r) learn.

    A starts with random numbers ~ N(0, 1 / D), B with zeros, so at first nothing is added.

    >>> layer, x = nn.Linear(8, 6), torch.ones(1, 8)
    >>> lora = LoraLinear(layer, rank=2, alpha=4)
    >>> torch.equal(lora(x), layer(x)), sum(p.numel() for p in (lora.lora_a, lora.lora_b))
    (True, 28)
    """

    def __init__(self, layer: nn.Linear | Int8Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.layer, self.rank, self.alpha = layer, rank, alpha
        n_rows, n_columns = layer.weight.shape
        device, dtype = layer.weight.device, layer.weight.dtype
        dtype = dtype if dtype.is_floating_point else torch.float32  # the layer may be int8
        a = torch.randn(rank, n_columns) / math.sqrt(n_columns)
        self.lora_a = nn.Parameter(a.to(device, dtype))
        self.lora_b = nn.Parameter(torch.zeros(n_rows, rank, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.alpha / self.rank * (x @ self.lora_a.T) @ self.lora_b.T

    def merged(self) -> nn.Linear:
        """One linear layer that does the same: its weight is W + (alpha / rank) B A."""
        if not isinstance(self.layer, nn.Linear):
            what, remedy = "its weights are rounded to int8", "Merge into the weights they were."
            raise LessonsError(what, where="merge_lora", remedy=remedy)
        n_rows, n_columns = self.layer.weight.shape
        linear = nn.Linear(n_columns, n_rows, bias=False, device="meta")
        change = self.alpha / self.rank * self.lora_b @ self.lora_a
        linear.weight = nn.Parameter((self.layer.weight + change).detach())
        linear.bias = self.layer.bias
        return linear


def add_lora(
    model: Decoder, rank: int, alpha: float, names: Collection[str] | None = None
) -> Decoder:
    """A model with LoRA beside the layers `names`; it shares its weights with `model`.

    Only A and B of each layer are trained. `model` itself stays as it was, and several adapted
    models hold its weights once; so don't train `model` on while they are in use. A name is the end
    of a layer's path: "qkv" is that layer of all blocks. None: all linear layers of the blocks.
    Names without a layer, a head that shares its matrix with the embedding, and a rank or alpha
    that is no use raise `LessonsError`.
    """
    chosen = _choose(model, names)
    limit = min(min(layer.weight.shape) for layer in chosen.values())
    if type(rank) is not int or not 1 <= rank <= limit:
        raise LessonsError(f"rank = {rank!r} is not an integer from 1 to {limit}", where="add_lora")
    if not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
        raise LessonsError(f"alpha = {alpha!r} is not a positive number", where="add_lora")
    shared: dict[int, Tensor] = {id(buffer): buffer for buffer in model.buffers()}
    shared |= {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    adapted = copy.deepcopy(model, shared)  # new modules around the same numbers
    for path in chosen:
        layer = adapted.get_submodule(path)
        adapted.set_submodule(path, LoraLinear(layer, rank, alpha))  # type: ignore[arg-type]
    return adapted


def merge_lora(model: Decoder) -> Decoder:
    """A plain Decoder that does what `model` does with its adapters, with weights of its own."""
    merged = copy.deepcopy(model)
    for path, adapter in _adapters(model).items():
        merged.set_submodule(path, copy.deepcopy(adapter.merged()))
    return merged.requires_grad_(True)


def remove_lora(model: Decoder) -> Decoder:
    """The base of `model`, around the same weights; a model without adapters is its own base."""
    shared: dict[int, Tensor] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    base = copy.deepcopy(model, shared)
    for path, module in model.named_modules():
        if isinstance(module, LoraLinear):
            base.set_submodule(path, module.layer)
    return base


def trained_part(model: Decoder) -> nn.Module:
    """What a checkpoint of `model` has to hold: its adapters alone, or else the model itself.

    The adapters come as a module with the `LoraConfig` as `config`. Its parameters are those of
    `model`, under names without points, which modules don't allow.
    """
    if not any(isinstance(module, LoraLinear) for module in model.modules()):
        return model
    config, tensors = _lora_state(model)
    part = nn.ParameterDict({name.replace(".", "/"): t for name, t in tensors.items()})
    part.config = config  # type: ignore[assignment]
    return part


def save_lora(model: Decoder, folder: Path | str) -> None:
    """Write the adapters of `model` alone to `folder`, which must be new or empty.

    Beside the tensors there is a file of facts: rank, alpha, and the SHA-256 of the base's weights.
    """
    config, parameters = _lora_state(model)
    tensors = {name: p.detach().contiguous() for name, p in parameters.items()}
    facts = {"format": FORMAT} | asdict(config)
    with new_folder(Path(folder)) as unfinished:
        try:
            save_file(tensors, unfinished / TENSORS)
        except SafetensorError as error:
            raise LessonsError(f"can't write the tensors: {error}", where=str(folder)) from None
        write_json(unfinished / FACTS, facts, indent=2)


def load_lora(model: Decoder, folder: Path | str) -> Decoder:
    """`add_lora(model, …)` with the adapters that `save_lora` wrote to `folder`.

    Adapters of another base, and files that don't agree with each other, raise `LessonsError`.
    """
    folder, where = Path(folder), str(Path(folder) / FACTS)
    facts = read_json_file(folder, FACTS, LARGEST_FACTS)
    if facts.get("format") != FORMAT:
        raise LessonsError(f"its format is not {FORMAT}", where=where)
    rank, alpha = field(facts, "rank", int, where), field(facts, "alpha", float, where)
    if facts.get("base_sha256") != _base_sha256(model):
        remedy = "Load the weights that it was trained beside."
        raise LessonsError("made for another base model", where=where, remedy=remedy)
    adapted = add_lora(model, rank, alpha, field(facts, "layers", list[str], where))
    path = file_in_folder(folder, TENSORS)
    tensors = read_tensors(path)
    expected = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    for name in sorted(expected.keys() | tensors.keys()):
        theirs, ours = (
            f"{tuple(t[name].shape)} of {t[name].dtype}" if name in t else "missing"
            for t in (tensors, expected)
        )
        if theirs != ours:
            what = f"tensor {name!r}: {theirs}, not {ours} as at rank {rank}"
            raise LessonsError(what, where=str(path))
        expected[name].data.copy_(tensors[name])
    return adapted


def _choose(model: Decoder, names: Collection[str] | None) -> dict[str, nn.Linear | Int8Linear]:
    """The layers that get an adapter, by path."""
    layers = {path: module for path, module in model.named_modules()
              if isinstance(module, nn.Linear | Int8Linear)}  # fmt: skip
    if any(isinstance(module, LoraLinear) for module in model.modules()):
        raise LessonsError("this model has adapters", where="add_lora", remedy="Merge them first.")
    if names is None:
        return {path: layer for path, layer in layers.items() if path.startswith("blocks.")}
    chosen: dict[str, nn.Linear | Int8Linear] = {}
    for name in names:
        found = {path: x for path, x in layers.items() if f".{path}".endswith(f".{name}")}
        if not found:
            known = ", ".join(sorted({path.rpartition(".")[2] for path in layers}))
            what = f"{name!r} is no linear layer of this model"
            raise LessonsError(what, where="names", remedy=f"Known: {known}.")
        chosen |= found
    if "head" in chosen and model.config.tie_embeddings:
        what = "the head shares its matrix with the embedding, so no change can be merged into it"
        raise LessonsError(what, where="names", remedy="Leave out 'head'.")
    if not chosen:
        raise LessonsError("no names", where="names", remedy="None is all layers of the blocks.")
    return chosen


def _adapters(model: Decoder) -> dict[str, LoraLinear]:
    """The adapters of a model by path; `LessonsError` if there are none."""
    found = {p: module for p, module in model.named_modules() if isinstance(module, LoraLinear)}
    if not found:
        raise LessonsError("this model has no adapters", where="LoRA", remedy="See `add_lora`.")
    return found


def _lora_state(model: Decoder) -> tuple[LoraConfig, dict[str, nn.Parameter]]:
    """What the adapters of `model` are, and their parameters by name."""
    adapters = _adapters(model)
    (rank, alpha), *others = {(x.rank, float(x.alpha)) for x in adapters.values()}
    if others:
        raise LessonsError("adapters of different rank or alpha", where="LoRA")
    tensors = {f"{path}.{name}": getattr(adapters[path], name)
               for path in adapters for name in ("lora_a", "lora_b")}  # fmt: skip
    return LoraConfig(_base_sha256(model), rank, alpha, list(adapters)), tensors


def _base_sha256(model: Decoder) -> str:
    """The SHA-256 of the weights without the adapters: names, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not name.endswith((".lora_a", ".lora_b")):
            name = name.replace(".layer.", ".")
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
