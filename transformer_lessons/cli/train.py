"""`train`: data, model, run folder and display come together."""

import shlex
from functools import partial
from typing import Any

import torch
from torch import Tensor

from transformer_lessons import cli
from transformer_lessons.cli import run_folder
from transformer_lessons.cli.data_source import DataSource, open_source, sequence_length
from transformer_lessons.cli.display import progress_line, visible
from transformer_lessons.cli.evaluate import evaluate_ids
from transformer_lessons.cli.options.runs import Train
from transformer_lessons.cli.training_run import AGAIN, carry_out
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation import Sampler, known_tokens, stream
from transformer_lessons.model import Decoder, batched_attend, fused_attend
from transformer_lessons.training import distributed
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.training.rank_trainer import RankTrainer, evaluate_together
from transformer_lessons.training.trainer import Trainer

SHORT = 512  # tokens: all weights of a batch that long fit into a laptop's memory


def run(options: Train) -> int:
    """Train and save; returns the exit code, 130 after Ctrl-C, 143 when told to end.

    Only PyTorch's generator is seeded: initial parameters and dropout draw from it. The order of
    the data has generators of its own, with the same seed; Python's and NumPy's are not used.
    """
    ranks = distributed.find_ranks()
    with distributed.one_voice(ranks), distributed.joined(ranks, options.timeout):
        return train(options, ranks)


def train(options: Train, ranks: distributed.Ranks) -> int:
    """`run`, in one process or as one of several; the first one prints."""
    console, device = cli.PlainConsole(), cli.choose_device(options.device)
    console.quiet = not distributed.is_first()
    if options.shard and ranks.store is None:
        remedy = "Start it with: torchrun --nproc-per-node 2 -m transformer_lessons train …"
        raise LessonsError("--shard needs several processes", remedy=remedy)
    if device.type == "cuda":
        if ranks.local_rank >= torch.cuda.device_count():
            remedy = "Start fewer processes, or use --device cpu."
            raise LessonsError(f"no GPU for local rank {ranks.local_rank}", remedy=remedy)
        torch.cuda.set_device(device := torch.device("cuda", ranks.local_rank))
    source = open_in_turn(options, ranks, console)
    run_folder.check_resume(options.out, options.resume)
    torch.manual_seed(options.training.seed)
    is_short = sequence_length(options.model, options.training) <= SHORT
    attend = batched_attend if is_short and device.type == "cpu" else fused_attend
    model = Decoder(options.model, attend).to(device)
    trainer = make_trainer(model, options, source, ranks)
    known = known_tokens(source.tokenizer, model.config.vocab_size)

    def sample() -> str:
        whole = load_checkpoint(options.out).model.to(device) if options.shard else model
        return write_sample(whole, source, known)

    if code := carry_out(trainer, source, options, sample, console, ranks.n_ranks):
        return code
    where = shlex.quote(str(options.out))
    prompt = shlex.quote(visible(source.tokenizer.decode_bytes(source.prompt)))
    console.print(f"Let it write: {AGAIN} generate {where} --prompt {prompt}", soft_wrap=True)
    return 0


def open_in_turn(options: Train, ranks: distributed.Ranks, console: cli.PlainConsole) -> DataSource:
    """The data: opened by rank 0 first, so that what it encodes is there for the others."""
    if not distributed.is_first():
        ranks.store.wait(["opened"])
    with progress_line(console) as show:
        choices = options.model, options.training, options.workers
        source = open_source(options.source, *choices, show)
    if ranks.store is not None:
        ranks.store.set("opened", "")
        same = {"the data": source.fingerprint, "the model": str(options.model)}
        distributed.check_same(ranks, same | {"the training": str(options.training)})
    return source


def make_trainer(
    model: Decoder, options: Train, source: DataSource, ranks: distributed.Ranks
) -> Trainer:
    """The trainer, which is evaluated on the held-out text if there is one."""
    given, judge = (model, options.training, source.batches), None
    if source.held_out is not None:
        length = sequence_length(options.model, options.training)
        how = None if ranks.store is None else evaluate_together
        judge = partial(evaluate_ids, model, source.held_out, length, source.lengths, how)
    elif options.training.eval_every:
        raise LessonsError("eval_every needs held-out text", where="--training.eval-every")
    more: dict[str, Any] = {"evaluate": judge, "data_state": source.state}
    if ranks.store is None:
        return Trainer(*given, **more)
    return RankTrainer(*given, shard=options.shard, **more)


def write_sample(model: Decoder, source: DataSource, known: Tensor) -> str:
    """What the model writes after the beginning of the held-out text, in `known` tokens."""
    try:
        written = list(stream(model, source.prompt, 48, Sampler(0.3), allowed=known))
    except LessonsError as error:  # training goes on as long as it can
        return f"no sample: {error.what}"
    decode = source.tokenizer.decode_bytes
    return f"{visible(decode(source.prompt))} -> {visible(decode(written))}"
