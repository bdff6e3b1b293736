"""The tensors of a model by name, each once, for files. Lesson 14."""

import torch
from torch import Tensor, nn

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state dict, in which a head that shares the embedding's matrix doesn't repeat it."""
    once = dict([*model.named_parameters(), *model.named_buffers()])  # shared: the first name only
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name in once}
    if odd := [n for n, t in tensors.items() if "int8" in str(t.dtype) or ".lora_" in n]:
        raise LessonsError(f"{odd[0]} holds rounded weights, or LoRA that is not merged yet")
    return tensors


def assign_tensors(model: Decoder, tensors: dict[str, Tensor]) -> None:
    """The inverse of `own_tensors`: make `tensors` the model's own, and share what was shared."""
    if model.config.tie_embeddings:
        tensors = tensors | {"head.weight": tensors["embedding.weight"]}
    model.load_state_dict(tensors, strict=True, assign=True)
    if model.config.tie_embeddings:
        model.head.weight = model.embedding.weight


def check_tensors(model: nn.Module, shapes: dict[str, torch.Size], where: str) -> None:
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
