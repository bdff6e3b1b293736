"""Everything about a run that is not the model: what must be saved to go on as if nothing was."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from transformer_lessons.errors import LessonsError
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.optimizer import AdamW, Muon
from transformer_lessons.training.randomness import random_state, set_random_state
from transformer_lessons.training.trainer import Trainer

ADAM = {"step", "exp_avg", "exp_avg_sq"}
AVERAGES = {AdamW: ADAM, torch.optim.AdamW: ADAM, Muon: {"momentum_buffer"}}  # what each keeps
FREE = ("save_every", "keep")  # fields that may change when a run goes on: results don't


def trainer_state(trainer: Trainer) -> dict[str, Any]:
    """The run as plain values and tensors: optimizers, scaler, random numbers, place in the data.

    The schedule needs no state of its own: it follows from the configuration and the step.
    """
    return {
        "config": trainer.config.to_dict(),
        "n_steps": trainer.n_steps,
        "best": [trainer.best, trainer.best_step, trainer.bad_evals] if trainer.best_step else None,
        "optimizers": [optimizer_state(optimizer) for optimizer in trainer.optimizers],
        "scaler": trainer.scaler.state_dict() if trainer.scaler else None,
        "random": random_state(),
        "data": trainer.position.state_dict() if trainer.position else None,
    }


def restore_trainer(trainer: Trainer, state: dict[str, Any]) -> None:
    """Put a new trainer where `trainer_state` was taken; the model's weights are restored apart.

    What doesn't fit (another configuration, say) raises `LessonsError`, naming it.
    """
    try:
        restore_parts(trainer, state)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, LessonsError):
            raise
        what = f"this is not the state of a training run: {error!r}"
        raise LessonsError(what, where="checkpoint") from None


def restore_parts(trainer: Trainer, state: dict[str, Any]) -> None:
    """`restore_trainer`, for a state that has every part."""
    check_same_config(state["config"], trainer.config)
    if (state["data"] is None) != (trainer.position is None):
        what = "the place in the data is known to one of checkpoint and trainer, not to both"
        raise LessonsError(what, where="data")
    for optimizer, saved in zip(trainer.optimizers, state["optimizers"], strict=True):
        load_optimizer_state(optimizer, saved)
    if trainer.scaler:
        trainer.scaler.load_state_dict(state["scaler"])
    if trainer.position:
        trainer.position.load_state_dict(state["data"])
    n_steps = state["n_steps"]
    if type(n_steps) is not int or not 0 <= n_steps <= trainer.config.steps:
        what = f"n_steps = {n_steps!r} is not from 0 to {trainer.config.steps}"
        raise LessonsError(what, where="checkpoint")
    trainer.n_steps = n_steps
    if state["best"]:
        best, best_step, bad_evals = state["best"]
        trainer.best, trainer.best_step, trainer.bad_evals = float(best), int(best_step), bad_evals
        trainer.stop = bad_evals >= trainer.config.patience > 0
    set_random_state(state["random"])


def check_same_config(saved: dict[str, Any], config: TrainConfig) -> None:
    """Raise `LessonsError` for the first field in which a run would not go on as it began."""
    began = TrainConfig.from_dict(saved, where="checkpoint").to_dict()
    for name, value in config.to_dict().items():
        if value != began[name] and name not in FREE:
            what = f"{name} = {began[name]!r} in the checkpoint, {value!r} here"
            remedy = "Resume with the same choices, or begin a new run."
            raise LessonsError(what, where=f"TrainConfig.{name}", remedy=remedy)


def optimizer_state(optimizer: Optimizer) -> dict[str, dict[str, Tensor]]:
    """The averages of each parameter, under its number in the optimizer's groups."""
    return {str(number): dict(state) for number, state in optimizer.state_dict()["state"].items()}


def load_optimizer_state(optimizer: Optimizer, saved: dict[str, dict[str, Tensor]]) -> None:
    """Give `optimizer` the averages of `optimizer_state`; their shapes must be the parameters'."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, tensors in saved.items():
        if not number.isdecimal() or int(number) >= len(parameters):
            what = f"averages of parameter {number}, but there are {len(parameters)}"
            raise LessonsError(what, where="optimizer")
        shape, names = parameters[int(number)].shape, AVERAGES.get(type(optimizer))
        if names and set(tensors) != names:
            what = f"parameter {number} has {sorted(tensors)}, not {sorted(names)}"
            raise LessonsError(what, where="optimizer")
        for name, tensor in tensors.items():
            if tensor.shape != (() if name == "step" else shape):
                what = f"{name} of parameter {number} is {tuple(tensor.shape)}, not {tuple(shape)}"
                raise LessonsError(what, where="optimizer")
    groups = optimizer.state_dict()["param_groups"]
    state = {int(number): tensors for number, tensors in saved.items()}
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def flatten_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON can hold it: tensors go to `tensors`, and leave {"tensor": name} behind.

    >>> tensors = {}
    >>> flatten_tensors({"a": [1, torch.tensor([2.0])]}, "state", tensors)
    {'a': [1, {'tensor': 'state.a.1'}]}
    >>> tensors
    {'state.a.1': tensor([2.])}
    """
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {k: flatten_tensors(v, f"{name}.{k}", tensors) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [flatten_tensors(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]
    return value


def unflatten_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `flatten_tensors`.

    >>> unflatten_tensors([1, {"tensor": "state.a"}], {"state.a": torch.tensor([2.0])})
    [1, tensor([2.])]
    """
    if isinstance(value, dict):
        if set(value) == {"tensor"}:
            name = value["tensor"]
            if not isinstance(name, str) or name not in tensors:
                raise LessonsError(f"tensor {name!r} is missing", where="training.safetensors")
            return tensors[name]
        return {k: unflatten_tensors(v, tensors) for k, v in value.items()}
    if isinstance(value, list):
        return [unflatten_tensors(v, tensors) for v in value]
    return value
