"""A run folder: one run at a time, each step logged once, and checkpoints to go on from."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest
import torch

from transformer_lessons.cli.run_folder import (
    begin_run,
    best_checkpoint,
    locked_folder,
    record_step,
    resume_run,
    save_run,
)
from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import CountedBatches, random_windows
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tokenizer import load_tokenizer
from transformer_lessons.training.checkpoint import checkpoints, save_checkpoint
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import Evaluation
from transformer_lessons.training.trainer import Trainer

CONFIG = ModelConfig(20, context_length=8, d_model=4, n_layers=1, n_heads=1, d_ff=4)


def make_trainer(folder, losses=(), config=CONFIG, **choices):
    """A trainer that records its steps in `folder`; evaluations find `losses`."""
    torch.manual_seed(0)
    tokens, found = torch.arange(300) % 20, iter(losses)
    batches = CountedBatches(lambda: random_windows(tokens, 8, batch_size=2))
    trainer = Trainer(
        Decoder(config),
        TrainConfig(**{"steps": 9, **choices}),
        batches,
        on_step=lambda report: record_step(folder, trainer, report),
        evaluate=lambda: Evaluation(next(found), 1),
        data_state=batches,
    )
    return trainer


def steps_in(folder):
    return sorted(checkpoints(folder))


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# One run at a time


def test_a_second_run_is_refused_and_the_folder_is_free_afterwards(tmp_path):  # SPEC E9
    folder = tmp_path / "new" / "run"
    for _ in range(2):
        with (
            locked_folder(folder),
            pytest.raises(LessonsError, match=r"^another run is writing here \(.*run\)\. Wait for"),
            locked_folder(folder),
        ):
            pass


def test_the_folder_is_free_as_soon_as_a_run_has_failed(tmp_path, monkeypatch):
    """Also while something still refers to the lock, as the traceback of an error may."""
    made = []

    class KeptLock(filelock.FileLock):
        def __init__(self, *args, **choices):
            super().__init__(*args, **choices)
            made.append(self)

    monkeypatch.setattr(filelock, "FileLock", KeptLock)

    def fail():
        assert made[0].is_locked
        raise LessonsError("the loss is nan")

    with pytest.raises(LessonsError), locked_folder(tmp_path):
        fail()
    assert not made[0].is_locked
    with locked_folder(tmp_path):
        pass


def test_the_folder_is_free_when_its_run_is_killed(tmp_path):  # SPEC E9
    code = (
        "import sys, time; from pathlib import Path\n"
        "from transformer_lessons.cli.run_folder import locked_folder\n"
        "with locked_folder(Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"
    )
    line = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(LessonsError, match="another run"), locked_folder(tmp_path):
            pass
        process.kill()
        process.wait()
        with locked_folder(tmp_path):
            pass


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "run").write_text("x")
    with (
        pytest.raises(LessonsError, match=r"^can't make a run folder.*run\)\. Choose another"),
        locked_folder(tmp_path / "run"),
    ):
        pass


# Beginning, and what is kept


def test_a_run_is_not_begun_over_another(tmp_path):
    begin_run(tmp_path, {"model": 1}, ByteTokenizer())
    begin_run(tmp_path, {"model": 2}, ByteTokenizer())  # nothing was saved: nothing is lost
    save_run(tmp_path, make_trainer(tmp_path))
    with pytest.raises(LessonsError, match=r"^there is a run here already .* or resume the run"):
        begin_run(tmp_path, {"model": 3}, ByteTokenizer())
    assert json.loads((tmp_path / "config.json").read_text()) == {"model": 2}


def test_the_log_has_a_line_a_step(tmp_path):  # SPEC F10
    begin_run(tmp_path, {}, ByteTokenizer())
    reports = make_trainer(tmp_path, steps=3).fit()
    log = log_of(tmp_path)
    assert [line["loss"] for line in log] == [report.loss for report in reports]
    assert [line["step"] for line in log] == [1, 2, 3]
    assert log[0].keys() >= {"learning_rate", "grad_norm", "n_targets", "seconds", "validation"}


@pytest.mark.parametrize(
    ("choices", "losses", "kept"),
    [
        ({"save_every": 2, "keep": 2}, [], [6, 8]),
        ({"save_every": 1, "keep": 3}, [], [7, 8, 9]),
        ({"save_every": 0}, [], []),
        # The best is kept besides the newest, until there is a better one.
        ({"save_every": 2, "keep": 1, "eval_every": 3}, [3.0, 2.0, 4.0], [6, 8]),
        ({"save_every": 2, "keep": 1, "eval_every": 3}, [1.0, 2.0, 4.0], [3, 8]),
        ({"save_every": 0, "keep": 1, "eval_every": 1}, [5, 4, 3, 9, 9, 2, 9, 9, 9], [6]),
        ({"save_every": 4, "keep": 1, "eval_every": 2}, [5, math.nan, math.nan, 9], [2, 8]),
    ],
)
def test_the_newest_stay_and_the_best(tmp_path, choices, losses, kept):  # SPEC S5 E9
    begin_run(tmp_path, {}, ByteTokenizer())
    make_trainer(tmp_path, losses, **choices).fit()
    assert steps_in(tmp_path) == kept


def test_the_best_is_found(tmp_path):  # SPEC S5
    begin_run(tmp_path, {}, ByteTokenizer())
    trainer = make_trainer(tmp_path, [3.0, 1.0, 2.0], save_every=2, keep=1, eval_every=3)
    trainer.fit()
    save_run(tmp_path, trainer)
    assert best_checkpoint(tmp_path) == tmp_path / "step-00000006"
    assert steps_in(tmp_path) == [6, 9]


def test_where_nothing_was_looked_at_there_is_no_best(tmp_path):
    begin_run(tmp_path, {}, ByteTokenizer())
    make_trainer(tmp_path, save_every=3).fit()
    save_checkpoint(tmp_path / "bare", 1, Decoder(CONFIG))
    for folder in (tmp_path, tmp_path / "bare"):
        with pytest.raises(LessonsError, match=r"^no best checkpoint here .* eval_every above 0"):
            best_checkpoint(folder)


def test_saving_twice_saves_once(tmp_path):
    begin_run(tmp_path, {}, ByteTokenizer())
    trainer = make_trainer(tmp_path)
    first = save_run(tmp_path, trainer)
    before = (first / "checkpoint.json").stat().st_mtime_ns
    assert save_run(tmp_path, trainer) == first
    assert (first / "checkpoint.json").stat().st_mtime_ns == before


def test_a_loss_gone_wrong_takes_no_healthy_checkpoint_with_it(tmp_path):  # SPEC S5
    begin_run(tmp_path, {}, ByteTokenizer())
    trainer = make_trainer(tmp_path, steps=100, save_every=1, keep=2)
    record = trainer.on_step

    def on_step(report):
        record(report)
        if report.step == 5:
            trainer.model.head.bias.data[0] = math.nan

    trainer.on_step = on_step
    with pytest.raises(LessonsError, match=r"^the loss is nan \(step 6\)"):
        trainer.fit()
    assert steps_in(tmp_path) == [4, 5]
    fresh = make_trainer(tmp_path, steps=100, save_every=1, keep=2)
    resume_run(tmp_path, fresh)
    assert all(tensor.isfinite().all() for tensor in fresh.model.state_dict().values())


def test_the_log_is_on_the_disk_before_the_checkpoint(tmp_path, monkeypatch):  # SPEC E9
    """After a power cut, a log that ends before the newest checkpoint could not be gone on with."""
    begin_run(tmp_path, {}, ByteTokenizer())
    calls, real_fsync, real_replace = [], os.fsync, os.replace

    def fsync(handle):
        calls.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        real_fsync(handle)

    def replace(source, target):
        calls.append(f"-> {Path(target).name}")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    make_trainer(tmp_path, steps=2, save_every=2).fit()
    assert calls.index("log.jsonl") < calls.index("-> step-00000002")
    assert calls.count("log.jsonl") == 1


# Going on


def run_until(folder, last, **choices):
    trainer = make_trainer(folder, **choices)
    record = trainer.on_step

    def on_step(report):
        record(report)
        trainer.stop = report.step == last

    trainer.on_step = on_step
    return trainer


def test_steps_after_the_checkpoint_happen_again_and_are_logged_once(tmp_path):  # SPEC G8
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
        begin_run(folder, {}, ByteTokenizer())
    make_trainer(whole, save_every=2).fit()
    run_until(parts, 5, save_every=2).fit()  # the checkpoint is of step 4
    with (parts / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "lo')  # and a line that was being written
    for last in (7, 9):
        trainer = run_until(parts, last, save_every=2)
        resume_run(parts, trainer)
        trainer.fit()
    assert [line["step"] for line in log_of(parts)] == list(range(1, 10))
    timeless = [[{**line, "seconds": 0} for line in log_of(folder)] for folder in (whole, parts)]
    assert timeless[0] == timeless[1]


def test_a_bare_model_is_no_run_to_go_on_with(tmp_path):
    begin_run(tmp_path, {}, ByteTokenizer())
    save_checkpoint(tmp_path, 1, Decoder(CONFIG))
    with pytest.raises(LessonsError, match=r"^this checkpoint has only the model in it.*step-0"):
        resume_run(tmp_path, make_trainer(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"), [("d_ff", 8), ("norm", "rms"), ("dropout", 0.5), ("context_length", 7)]
)
def test_another_model_is_refused_by_name(tmp_path, name, value):  # SPEC A7
    begin_run(tmp_path, {}, ByteTokenizer())
    make_trainer(tmp_path, steps=9, save_every=9).fit()
    other = ModelConfig(**{**CONFIG.to_dict(), name: value})
    with pytest.raises(LessonsError, match=rf"^{name} = .* in the checkpoint, .*Config\.{name}\)"):
        resume_run(tmp_path, make_trainer(tmp_path, config=other, save_every=9))


def test_a_log_cut_short_by_hand_is_named(tmp_path):
    begin_run(tmp_path, {}, ByteTokenizer())
    make_trainer(tmp_path, save_every=9).fit()
    lines = (tmp_path / "log.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "log.jsonl").write_text("".join(lines[:4]))
    with pytest.raises(LessonsError, match=r"^the log ends at step 4, before the .* of step 9"):
        resume_run(tmp_path, make_trainer(tmp_path, save_every=9))


DAMAGE = {
    "not JSON": (b'{"step": 3, ', 3),
    "not UTF-8": (b'{"step": 3, "loss": "\xff"}', 3),
    "a field too few": (b'{"step": 3, "loss": 1.0, "seconds": 1.0}', 3),
    "another kind": (b'{"step": 3, "loss": null, "seconds": 1, "n_targets": 1}', 3),
    "no object": (b"[3]", 3),
    "another step": (b'{"step": 4, "loss": 1, "seconds": 1, "n_targets": 1}', 3),
    "nested too deep": (b"[" * 100_000, 3),
    "empty": (b"", 3),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_log_is_named_by_its_line(tmp_path, name):  # SPEC S9 G8
    begin_run(tmp_path, {}, ByteTokenizer())
    make_trainer(tmp_path, save_every=9).fit()
    lines = (tmp_path / "log.jsonl").read_bytes().split(b"\n")
    data, number = DAMAGE[name]
    lines[number - 1] = data
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    before = (tmp_path / "log.jsonl").read_bytes()
    with pytest.raises(LessonsError, match=r"^not a line that training has .*log\.jsonl, line 3\)"):
        resume_run(tmp_path, make_trainer(tmp_path, save_every=9))
    assert (tmp_path / "log.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "tokenizer",
    [ByteTokenizer(), BPETokenizer({i: bytes([i]) for i in range(256)}, [], ["<|endoftext|>"])],
)
def test_a_run_folder_has_its_tokenizer(tmp_path, tokenizer):
    begin_run(tmp_path, {}, tokenizer)
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert (type(loaded), loaded.n_vocab) == (type(tokenizer), tokenizer.n_vocab)


@pytest.mark.parametrize("config", ["{}", '{"data": 5}', '{"data": {"fingerprint": "another"}}'])
def test_other_data_is_refused(tmp_path, config):  # SPEC A7
    begin_run(tmp_path, {}, ByteTokenizer())
    make_trainer(tmp_path, save_every=9).fit()
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(LessonsError, match=r"^the data is not what the run began with"):
        resume_run(tmp_path, make_trainer(tmp_path, save_every=9), "the fingerprint")
