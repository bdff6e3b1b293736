"""A model from somebody else's file: every tensor found, fitted, used exactly once. Lesson 20.

A name map says where each of our tensors comes from. Ours holds queries, keys and values in one
matrix; most files hold three, and their rows are stacked. Some store a matrix transposed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.accounting import parameter_counts
from transformer_lessons.model.attention import fused_attend
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.state_dict import assign_tensors, own_tensors


class Source(NamedTuple):
    """A tensor of a file, and what turns it into (some rows of) one of ours; None: nothing."""

    name: str
    change: Callable[[Tensor], Tensor] | None = None


NameMap = dict[str, list[Source]]  # our name: the tensors whose rows, stacked, are ours
Shapes = Mapping[str, Sequence[int]]
TOGETHER = "Do these files belong together?"


def assemble(
    config: ModelConfig,
    name_map: Callable[[ModelConfig], NameMap],
    shapes: Shapes,
    read: Callable[[str], Tensor],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    where: str = "weights",
) -> Decoder:
    """A decoder of `config` with the tensors of a file, one at a time, in `dtype` on `device`.

    `shapes` has the name and shape of every tensor in the file, `read` gives one of them, which is
    then ours to keep, and `name_map(config)` says which of them make each of ours. A tensor that is
    missing, left over or misshapen raises `LessonsError` before any is read. Besides the finished
    weights only one tensor of the file is held. The model attends by PyTorch's own kernel.

    >>> config = ModelConfig(3, context_length=8, d_model=2, n_layers=1, n_heads=1, d_ff=2)
    >>> theirs = {f"their.{name}": t for name, t in Decoder(config).state_dict().items()}
    >>> same_names = lambda config: {name[6:]: [Source(name)] for name in theirs}
    >>> shapes = {name: tensor.shape for name, tensor in theirs.items()}
    >>> model = assemble(config, same_names, shapes, theirs.get)
    >>> torch.equal(model.head.weight, theirs["their.head.weight"])
    True
    """
    if config.n_layers > len(shapes):  # before any is made
        what = f"the configuration has {config.n_layers:,} blocks, the file {len(shapes)} tensors"
        raise LessonsError(what, where=where, remedy=TOGETHER)
    sources = name_map(config)
    check_names(sources, shapes, where)
    _check_size(config, shapes, where)
    with torch.device("meta"):  # names and shapes only: every number comes from the file
        model = Decoder(config, fused_attend)
    expected = {name: tensor.shape for name, tensor in own_tensors(model).items()}
    _check_shapes(sources, shapes, expected, _qkv_widths(config), where)
    tensors = {}
    for name, shape in expected.items():
        tensors[name] = stack_rows(sources[name], read, shape, dtype, device)
    assign_tensors(model, tensors)
    return model.eval()


def stack_rows(
    sources: Sequence[Source],
    read: Callable[[str], Tensor],
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | str,
) -> Tensor:
    """One of our tensors, from the rows of its sources; one source that needs no change is ours."""
    if len(sources) == 1 and sources[0].change is None:
        return read(sources[0].name).to(device, dtype).contiguous()
    stacked = torch.empty(shape, dtype=dtype, device=device)
    start = 0
    for source in sources:
        part = read(source.name)
        part = part if source.change is None else source.change(part)
        stacked[start : start + len(part)] = part
        start += len(part)
        del part  # before the next one is read
    return stacked


def check_names(sources: NameMap, shapes: Shapes, where: str) -> None:
    """Raise `LessonsError` naming the first tensor that is missing from the file, or left over."""
    wanted = [source.name for parts in sources.values() for source in parts]
    if missing := [name for name in wanted if name not in shapes]:
        raise LessonsError(f"tensor {missing[0]!r} is missing", where=where)
    if unknown := sorted(shapes.keys() - set(wanted)):
        what = f"tensor {unknown[0]!r} is not part of this model"
        remedy = "It belongs to something that the book's decoder doesn't have."
        raise LessonsError(what, where=where, remedy=remedy)


def _qkv_widths(config: ModelConfig) -> tuple[int, int, int]:
    """How many rows of our matrix make queries, keys and values."""
    n_heads, n_kv_heads, head_dim = config.heads
    return n_heads * head_dim, n_kv_heads * head_dim, n_kv_heads * head_dim


def _check_size(config: ModelConfig, shapes: Shapes, where: str) -> None:
    """Raise `LessonsError` if `config` means more than the file holds, before any of it is made."""
    n_numbers = sum(math.prod(shape) for shape in shapes.values())
    n_parameters = sum(parameter_counts(config).values())
    if n_parameters > n_numbers:
        what = f"the configuration means {n_parameters:,} numbers, the file holds {n_numbers:,}"
        raise LessonsError(what, where=where, remedy=TOGETHER)


def _check_shapes(
    sources: NameMap, shapes: Shapes, expected: Shapes, widths: Sequence[int], where: str
) -> None:
    """Raise `LessonsError` unless the tensors of the file, once changed, have the shapes of ours.

    Where several make one of ours, they are queries, keys and values, of `widths` rows each.
    """
    for name, parts in sources.items():
        rows = widths if len(parts) > 1 else expected[name][:1]
        for part, n_rows in zip(parts, rows, strict=True):
            wanted = (n_rows, *expected[name][1:])
            tensor = torch.empty(list(shapes[part.name]), device="meta")
            try:
                fits = (part.change(tensor) if part.change else tensor).shape == wanted
            except RuntimeError:  # it can't be changed so
                fits = False
            if not fits:
                what = f"tensor {part.name!r} is {tuple(shapes[part.name])}"
                what += f" and can't make {name!r}, where {wanted} are needed"
                raise LessonsError(what, where=where)
