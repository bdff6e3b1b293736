"""All of a run that is not the model: what is saved to go on as if nothing was. Lesson 14."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.checkpoint_files import check_averages
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.optimizer import AdamW, Muon
from transformer_lessons.training.precision import GradScaler
from transformer_lessons.training.trainer import Trainer

ADAM = {"step", "exp_avg", "exp_avg_sq"}
AVERAGES = {AdamW: ADAM, torch.optim.AdamW: ADAM, Muon: {"momentum_buffer"}}  # what each keeps
FREE = ("save_every", "keep")  # fields that may change when a run goes on: results don't


def trainer_state(trainer: Trainer) -> dict[str, Any]:
    """The run as plain values and tensors: optimizers, scaler, random numbers, place in the data.

    The averages of an optimizer stand under the number of their parameter in its groups. The
    schedule needs no state of its own: it follows from the configuration and the step.
    """
    averages = [optimizer.state_dict()["state"] for optimizer in trainer.optimizers]
    return {
        "config": trainer.config.to_dict(),
        "n_steps": trainer.n_steps,
        "best": [trainer.best, trainer.best_step, trainer.bad_evals] if trainer.best_step else None,
        "optimizers": [{str(n): dict(tensors) for n, tensors in of.items()} for of in averages],
        "scaler": dict(vars(trainer.scaler)) if trainer.scaler else None,
        "random": random_state(),
        "data": None if trainer.data_state is None else trainer.data_state.state_dict(),
    }


def restore_trainer(trainer: Trainer, state: dict[str, Any]) -> None:
    """Put a new trainer where `trainer_state` was taken; the model's weights are restored apart.

    What doesn't fit (another configuration, say) raises `LessonsError`, naming it.
    """
    try:
        _check_same_config(state["config"], trainer.config)
        if (state["data"] is None) != (trainer.data_state is None):
            what = "the place in the data is known to one of checkpoint and trainer, not to both"
            raise LessonsError(what, where="data")
        for optimizer, saved in zip(trainer.optimizers, state["optimizers"], strict=True):
            _load_averages(optimizer, saved)
        if trainer.scaler:
            trainer.scaler = GradScaler(**state["scaler"])
        if trainer.data_state is not None:
            trainer.data_state.load_state_dict(state["data"])
        n_steps = state["n_steps"]
        if type(n_steps) is not int or not 0 <= n_steps <= trainer.config.steps:
            what = f"n_steps = {n_steps!r} is not from 0 to {trainer.config.steps}"
            raise LessonsError(what, where="checkpoint")
        trainer.n_steps = n_steps
        if state["best"]:
            best, best_step, trainer.bad_evals = state["best"]
            trainer.best, trainer.best_step = float(best), int(best_step)
            trainer.stop = trainer.bad_evals >= trainer.config.patience > 0
        set_random_state(state["random"])
    except LessonsError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"this is not the state of a training run: {error!r}"
        raise LessonsError(what, where="checkpoint") from None


def random_state() -> dict[str, Any]:
    """The states of PyTorch's generators, from which dropout draws, on the CPU and on each GPU.

    >>> state = random_state()
    >>> numbers = torch.rand(3)
    >>> set_random_state(state)
    >>> torch.equal(torch.rand(3), numbers)
    True
    """
    state = {"torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` returned; what doesn't fit raises `LessonsError`.

    GPUs that are not there any more are passed over: without them, nothing draws from them.
    """
    try:
        torch.set_rng_state(state["torch"])
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
        if torch.backends.mps.is_available() and "mps" in state:
            torch.mps.set_rng_state(state["mps"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        what = f"this is no state of random numbers: {error}"
        raise LessonsError(what, where="random") from None


def _check_same_config(saved: dict[str, Any], config: TrainConfig) -> None:
    """Raise `LessonsError` for the first field in which a run would not go on as it began."""
    began = TrainConfig.from_dict(saved, where="checkpoint").to_dict()
    for name, value in config.to_dict().items():
        if value != began[name] and name not in FREE:
            what = f"{name} = {began[name]!r} in the checkpoint, {value!r} here"
            remedy = "Resume with the same choices, or begin a new run."
            raise LessonsError(what, where=f"TrainConfig.{name}", remedy=remedy)


def _load_averages(optimizer: Optimizer, saved: dict[str, dict[str, Tensor]]) -> None:
    """Give `optimizer` its averages back; PyTorch itself doesn't look whether they fit."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    check_averages(saved, [p.shape for p in parameters], AVERAGES[type(optimizer)])
    groups = optimizer.state_dict()["param_groups"]
    state = {int(number): tensors for number, tensors in saved.items()}
    optimizer.load_state_dict({"state": state, "param_groups": groups})
