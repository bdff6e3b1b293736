"""A run folder: configuration, tokenizer, a log line a step, checkpoints that don't pile up.

One run at a time writes to it, and a run that was stopped goes on in it: the log then holds each
step once, as if the run had never stopped.
"""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model import Decoder
from transformer_lessons.support.files import read_json, replace_file, sync_file, write_json
from transformer_lessons.tokenizers import ByteTokenizer, Tokenizer
from transformer_lessons.training import checkpoint, rank_trainer
from transformer_lessons.training.checkpoint import checkpoints, load_checkpoint
from transformer_lessons.training.distributed import is_first
from transformer_lessons.training.state import restore_trainer
from transformer_lessons.training.trainer import StepReport, Trainer
from transformer_lessons.weights.lora import trained_part

SUMMED = ("loss", "seconds", "n_targets")  # what is added up at the end of a run


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep other runs out of `folder`, which is made if need be; a second one raises.

    The lock is the operating system's, so it ends with the process, however that ends.
    """
    from filelock import FileLock, Timeout  # here, because it takes a while

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        remedy = "Wait for it to end, or choose another folder."
        what = "another run is writing here"
        raise LessonsError(what, where=str(folder), remedy=remedy) from None
    except OSError as error:
        what = f"can't make a run folder: {error.strerror}"
        raise LessonsError(what, where=str(folder), remedy="Choose another folder.") from None
    try:
        yield
    finally:
        lock.release()


def begin_run(folder: Path, config: dict[str, Any], tokenizer: Tokenizer) -> None:
    """Make `config.json`, which says what the run is, `tokenizer.json`, and an empty `log.jsonl`.

    A folder that holds a run already raises `LessonsError`.
    """
    if checkpoints(folder):
        remedy = "Choose another folder, or resume the run."
        raise LessonsError("there is a run here already", where=str(folder), remedy=remedy)
    write_json(folder / "config.json", config, indent=2)
    tokenizer.save(folder / "tokenizer.json")
    replace_file(folder / "log.jsonl", "")


def record_step(
    folder: Path, trainer: Trainer, report: StepReport, more: dict[str, Any] | None = None
) -> None:
    """Log a step, and what `more` says; save every `save_every` steps, and at each new best."""
    line = asdict(report) | (more or {})
    if not math.isfinite(report.grad_norm):  # a step that float16 left out
        line["grad_norm"] = None  # JSON has no other word for it
    if is_first():
        with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
    every = trainer.config.save_every
    if report.is_best or (every and report.step % every == 0):
        save_run(folder, trainer)


def save_run(folder: Path, trainer: Trainer) -> Path:
    """Save a checkpoint of the run as it stands, if there is none; remove those too old to keep.

    The log is on the disk first: a run goes on only from a checkpoint that it reaches. Of several
    processes all call this together, and the first one writes.
    """
    model, state = rank_trainer.whole_run(trainer)
    path = folder / f"step-{trainer.n_steps:08d}"
    if is_first() and not path.exists():
        sync_file(folder / "log.jsonl")
        path = checkpoint.save_checkpoint(folder, trainer.n_steps, trained_part(model), state)
        remove_old(folder, trainer.config.keep, trainer.best_step)
    return path


def remove_old(folder: Path, keep: int, best_step: int) -> None:
    """Remove all checkpoints but the `keep` newest ones and the one of `best_step`."""
    saved = checkpoints(folder)
    for step in sorted(saved)[:-keep]:
        if step != best_step:
            shutil.rmtree(saved[step])


def check_resume(folder: Path, resume: bool) -> None:
    """Raise `LessonsError` where a run is to go on that isn't there."""
    if resume and not checkpoints(folder):
        what = "there is no checkpoint to go on from"
        raise LessonsError(what, where=str(folder), remedy="Leave --resume out.")


def is_shared(model: nn.Module) -> bool:
    """Whether each rank has only a piece of the model (FSDP2)."""
    return hasattr(next(model.parameters()), "full_tensor")


def resume_run(folder: Path, trainer: Trainer, fingerprint: str | None = None) -> None:
    """Put a new trainer where the newest checkpoint of `folder` was saved, and the log as well.

    What doesn't fit (another model, another configuration, data of another `fingerprint`) raises
    `LessonsError`, naming it.
    """
    if fingerprint is not None:
        data = read_json(folder / "config.json").get("data")
        if not isinstance(data, dict) or data.get("fingerprint") != fingerprint:
            raise LessonsError("the data is not what the run began with", where=str(folder))
    is_piece, part = is_shared(trainer.model), trained_part(trainer.model)
    saved = load_checkpoint(folder, into=Decoder(trainer.model.config) if is_piece else part)
    if saved.training is None:
        what = "this checkpoint has only the model in it, not the state of a run"
        raise LessonsError(what, where=str(checkpoint.latest_checkpoint(folder)))
    if is_piece:
        rank_trainer.load_whole(trainer, saved.model, saved.training)
    else:
        restore_trainer(trainer, saved.training)
    log, lines = folder / "log.jsonl", read_log(folder, trainer.n_steps)
    if len(lines) < trainer.n_steps:
        what = f"the log ends at step {len(lines)}, before the checkpoint of step {trainer.n_steps}"
        raise LessonsError(what, where=str(log), remedy="Was it changed by hand?")
    if is_first():  # what came after the checkpoint happens again
        replace_file(log, "".join(json.dumps(line) + "\n" for line in lines))


def read_log(folder: Path, n_steps: int | None = None) -> list[dict[str, Any]]:
    """The lines of a run's log, the first `n_steps` of them; a damaged one raises `LessonsError`.

    Lines behind `n_steps` are not looked at: a run that was killed may have left half of one.
    """
    path, lines = folder / "log.jsonl", list[dict[str, Any]]()
    try:
        text = path.read_bytes().split(b"\n")[:n_steps]
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None
    for number, data in enumerate(text, start=1):
        if not data and number == len(text):  # behind the last line end
            break
        where = f"{path}, line {number}"
        try:
            line = json.loads(data.decode("utf-8"))
            if line["step"] != number or not all(math.isfinite(line[name]) for name in SUMMED):
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            what, remedy = "not a line that training has written", "Was it changed by hand?"
            raise LessonsError(what, where=where, remedy=remedy) from None
        lines.append(line)
    return lines


def best_checkpoint(folder: Path) -> Path:
    """The checkpoint with the lowest loss on held-out text; `LessonsError` if there is none."""
    best = (load_checkpoint(folder).training or {}).get("best")
    step = best[1] if isinstance(best, list) and len(best) == 3 else None
    saved = checkpoints(folder)
    if type(step) is not int or step not in saved:
        remedy = "Train with eval_every above 0, or use the latest checkpoint."
        raise LessonsError("no best checkpoint here", where=str(folder), remedy=remedy)
    return saved[step]


def check_tokenizer(config: ModelConfig, tokenizer: Tokenizer, where: str) -> None:
    """Raise `LessonsError` unless the tokens of a model of `config` are those of `tokenizer`.

    A vocabulary may be larger than the tokenizer's (sizes are often rounded up), but not for bytes.
    """
    if isinstance(tokenizer, ByteTokenizer) and config.vocab_size != 256:
        what = f"vocab_size = {config.vocab_size}, but the tokens are bytes"
        raise LessonsError(what, where=where, remedy="Train with --model.vocab-size 256.")
    if config.vocab_size < tokenizer.n_vocab:
        what = f"vocab_size = {config.vocab_size}, but the tokenizer has {tokenizer.n_vocab} tokens"
        remedy = f"Train with --model.vocab-size {tokenizer.n_vocab}, or use its own tokenizer."
        raise LessonsError(what, where=where, remedy=remedy)
