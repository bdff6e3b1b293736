"""The trainer of one of several processes: what differs from training alone. Lesson 15."""

import copy
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.state_dict import assign_tensors, own_tensors
from transformer_lessons.training.clipping import clip_grad_norm
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.distributed import gather, own_rows
from transformer_lessons.training.evaluate import Evaluation, evaluate
from transformer_lessons.training.precision import autocast
from transformer_lessons.training.state import restore_trainer, trainer_state
from transformer_lessons.training.trainer import Batch, Trainer, batch_loss


class RankTrainer(Trainer):
    """A `Trainer` in each of several processes, which together take the steps that one would take.

    All draw the same `batches`, and each keeps its rows. Gradients are summed over the ranks and
    divided by the number of real targets of all. With `shard` a rank holds only its share of each
    parameter, gradient and average (FSDP2); without, it holds everything (DDP).
    """

    def __init__(
        self, model: Decoder, config: TrainConfig, batches: Iterable[Batch], *,
        shard: bool = False, **more: Any,
    ) -> None:  # fmt: skip
        if shard:
            shard_model(model, config)
        super().__init__(model, config, batches, **more)
        self.rank, self.n_ranks = dist.get_rank(), dist.get_world_size()
        self.is_sharded, self.parallel = shard, cast(Any, model)
        if not shard:  # DDP adds up in the backward pass of what has gone through its `forward`
            module = _Loss(model, self.batch_loss)
            self.parallel = DistributedDataParallel(module, gradient_as_bucket_view=True)
            self.batch_loss = self.parallel

    def should_stop(self) -> bool:
        """If one rank was told to stop, all do, before the same step."""
        self.stop = any(gather(self.stop))
        return self.stop

    def take(self, batches: Iterator[Batch]) -> Batch:
        """This rank's rows of the next batch."""
        inputs, targets = super().take(batches)
        if len(inputs) < self.n_ranks and self.n_steps == 0:
            what = f"a batch of {len(inputs)} rows for {self.n_ranks} processes"
            remedy = "Start fewer processes, or raise batch_size; is there so much data?"
            raise LessonsError(what, where="TrainConfig.batch_size", remedy=remedy)
        return own_rows(inputs, targets, self.rank, self.n_ranks)

    def gradients(self, batches: Sequence[Batch]) -> tuple[float, int]:
        """As one process would make them of all rows; ranks exchange theirs in the last batch."""
        torch.manual_seed((self.config.seed + self.n_steps) * self.n_ranks + self.rank)  # dropout
        self.rows = batches
        n_targets = int(sum(gather(sum(int((y != IGNORE).sum()) for _, y in batches))))
        if n_targets == 0:
            raise LessonsError("a batch without a single real target", remedy="Look at the data.")
        # DDP and FSDP2 divide the sum over the ranks by their number.
        scale = (self.scaler.scale if self.scaler else 1.0) * self.n_ranks
        total: Tensor | float = 0.0
        for number, (inputs, targets) in enumerate(batches, start=1):
            self.exchange_gradients(number == len(batches))
            part = self.sum_of_losses(inputs, targets) / n_targets
            (part * scale).backward()
            total = total + part.detach()
        losses = gather(float(total))
        for rank, loss in enumerate(losses):
            self.check_finite(f"loss of rank {rank}", loss)
        return sum(losses), n_targets

    def check_finite(self, name: str, value: float) -> None:
        """As alone; of a gradient, which all have summed up, it says whose part is not finite."""
        if name == "gradient norm" and not math.isfinite(value):
            for rank, own in enumerate(gather(self.own_gradient_norm())):
                super().check_finite(f"{name} of rank {rank}", own)
        super().check_finite(name, value)

    def own_gradient_norm(self) -> float:
        """How long the gradient of this rank's rows is: made anew, and exchanged with nobody."""
        model = copy.deepcopy(whole_run(self)[0])
        model.zero_grad()
        for inputs, targets in self.rows:
            with autocast(self.device, self.config.precision):
                loss = batch_loss(model, inputs, targets, self.config.loss_chunk_size)
            loss.backward()
        return clip_grad_norm(list(model.parameters()), math.inf).item()

    def exchange_gradients(self, is_wanted: bool) -> None:
        """Whether the next forward and backward pass ends with the sum over all ranks."""
        if self.is_sharded:
            self.parallel.set_requires_gradient_sync(is_wanted)
        else:
            self.parallel.require_backward_grad_sync = is_wanted


class _Loss(nn.Module):
    """A module whose `forward` is the loss of a model."""

    def __init__(self, model: Decoder, loss: Any) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(inputs, targets)


def shard_model(model: Decoder, config: TrainConfig) -> None:
    """Cut every parameter into a share a rank (FSDP2); a block's are gathered while it computes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    if config.compile:
        remedy = "Train with --training.no-compile, or without --shard."
        raise LessonsError("compile = True doesn't go with a model in shares", remedy=remedy)
    mesh = init_device_mesh(next(model.parameters()).device.type, (dist.get_world_size(),))
    for module in [*model.blocks, model]:
        fully_shard(module, mesh=mesh)
    register_fsdp_forward_method(model, "hidden_states")  # the loss in chunks begins there
    # FSDP2 warns that logits with a bias are a view; nobody writes to them in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")


def evaluate_together(
    model: Decoder, batches: Iterable[Batch], lengths: Tensor | None = None
) -> Evaluation:
    """`evaluate`, of which each rank does every n_ranks-th batch; all get the same result.

    All compute equally often, because a model in shares needs all ranks for every step.
    """

    def own() -> Iterator[Batch]:
        rank, n_ranks, rest = dist.get_rank(), dist.get_world_size(), iter(batches)
        while some := list(islice(rest, n_ranks)):
            inputs, targets = some[min(rank, len(some) - 1)]
            yield inputs, targets if rank < len(some) else torch.full_like(targets, IGNORE)

    return evaluate(model, own(), lengths, add_up=lambda value: sum(gather(value)))


def whole_run(trainer: Trainer) -> tuple[Decoder, dict[str, Any]]:
    """The model and the `trainer_state` with whole tensors, on every rank; all call it together."""
    state, model = trainer_state(trainer), trainer.model
    for averages in (of for optimizer in state["optimizers"] for of in optimizer.values()):
        averages.update({name: _whole(tensor) for name, tensor in averages.items()})
    if not hasattr(next(model.parameters()), "full_tensor"):
        return model, state
    tensors = {name: _whole(tensor) for name, tensor in own_tensors(model).items()}
    with torch.device("meta"):
        model = Decoder(model.config)
    assign_tensors(model, tensors)
    return model, state


def load_whole(trainer: Trainer, model: Decoder, state: dict[str, Any]) -> None:
    """Put the model and the state of a run into `trainer`; of what it shares, its share."""
    own, saved = trainer.model.state_dict(), model.state_dict()
    for name, tensor in own.items():
        tensor.copy_(_share(saved[name], tensor))
    restore_trainer(trainer, state)
    for parameter, averages in (i for o in trainer.optimizers for i in o.state.items()):
        shares = {name: _share(t, parameter) for name, t in averages.items() if t.ndim}
        averages.update(shares)


def load_distributed(folder: Path | str, model: Decoder, prefix: str = "model.") -> None:
    """Give `model` the weights in a folder that `torch.distributed.checkpoint` has written.

    It may be of any number of ranks; `prefix` stands before the names there. No code of it is run:
    see `support.distributed_files`. What doesn't fit raises `LessonsError`.
    """
    from torch.distributed import checkpoint  # here, because it takes half a second

    from transformer_lessons.support.distributed_files import SafeReader

    tensors = {f"{prefix}{name}": tensor for name, tensor in own_tensors(model).items()}
    reader = SafeReader(Path(folder))
    try:
        with warnings.catch_warnings(action="ignore"):  # it warns that there is one process
            checkpoint.load(tensors, storage_reader=reader, no_dist=True)
    except (checkpoint.CheckpointException, Exception) as error:  # the first isn't an Exception
        what = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise LessonsError(f"can't load it: {what}"[:500], where=str(folder)) from None


def _whole(tensor: Any) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _share(tensor: Tensor, like: Any) -> Tensor:
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    where = like.device_mesh, like.placements
    return distribute_tensor(tensor.to(like.device), *where, src_data_rank=None)
