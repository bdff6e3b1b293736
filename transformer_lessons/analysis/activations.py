"""What the parts of a model read and write, and what follows if it is changed. Lesson 24."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference


def activations(model: Decoder, tokens: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """What each of `named_modules()` reads and writes on `tokens`: name -> (input, output)."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        seen[name] = (inputs[0], output)

    with ExitStack() as hooks, inference(model):
        for name, module in model.named_modules():
            hooks.enter_context(module.register_forward_hook(partial(keep, name)))
        model(tokens)
    return seen


@contextmanager
def activation_patching(
    model: Decoder, values: Mapping[str, Tensor], positions: Sequence[int] | None = None
) -> Iterator[None]:
    """Inside this block each module named in `values` writes these (B, T, …), not its own output.

    Only what stands at `positions` is replaced; None means everywhere. An unknown name or position
    or values of another shape than the output (shorter with a KV cache) raise `LessonsError`.
    Source: Meng et al. 2022, "Locating and Editing Factual Associations in GPT", section 2.
    """
    modules = dict(model.named_modules())
    if unknown := sorted(set(values) - set(modules)):
        raise LessonsError(f"no module {unknown[0]!r}", remedy="print(model) shows what there is.")

    def replace(name: str, module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        if values[name].shape != output.shape:
            what = f"values {tuple(values[name].shape)} for an output {tuple(output.shape)}"
            raise LessonsError(what, where=name, remedy="Both runs need equally many tokens.")
        patched = output.clone()
        for position in range(output.shape[1]) if positions is None else positions:
            _check_index("position", position, output.shape[1])
            patched[:, position] = values[name][:, position]
        return patched

    with ExitStack() as hooks:
        for name in values:
            hooks.enter_context(modules[name].register_forward_hook(partial(replace, name)))
        yield


@contextmanager
def head_ablation(
    model: Decoder, heads: Iterable[tuple[int, int]], mean_over: Tensor | None = None
) -> Iterator[None]:
    """Inside this block each of `heads`, pairs (layer, head), hands over the same everywhere.

    That is zeros or, given tokens `mean_over` (B, T), the mean of what it hands over on these. A
    head that the model doesn't have raises `LessonsError`.
    """
    seen = {} if mean_over is None else activations(model, mean_over)

    def silence(name: str, head: int, out: nn.Module, inputs: tuple) -> Tensor:
        mixed = inputs[0].clone().unflatten(-1, (model.config.n_heads, -1))  # (B, T, H, d)
        means = seen[name][0].mean((0, 1)) if seen else torch.zeros_like(inputs[0][0, 0])
        mixed[:, :, head] = means.view_as(mixed[0, 0])[head]
        return mixed.flatten(2)

    with ExitStack() as hooks:
        for pair in heads:
            if pair not in product(range(model.config.n_layers), range(model.config.n_heads)):
                raise LessonsError(f"{pair} is no (layer, head) of this model", where="heads")
            name = f"blocks.{pair[0]}.attention.out"
            hook = partial(silence, name, pair[1])
            hooks.enter_context(model.get_submodule(name).register_forward_pre_hook(hook))
        yield


def _check_index(kind: str, index: int, size: int) -> None:
    """Raise `LessonsError` unless `index` is one of `size`; -1 is the last."""
    if not -size <= index < size:
        raise LessonsError(f"{kind} {index} is not from 0 to {size - 1}", where=kind)
