"""A run that was stopped and gone on with is the run that was not, to the last bit."""

import hashlib
import json
import random

import pytest
import torch

from transformer_lessons.cli.run_folder import begin_run, record_step, resume_run, save_run
from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import CountedBatches, consecutive_windows, random_windows
from transformer_lessons.data.packing import TokenWindows
from transformer_lessons.data.pairs import pair_batches
from transformer_lessons.data.sampler import WindowLoader
from transformer_lessons.data.stream import TokenStream
from transformer_lessons.data.token_files import open_tokens, tokenize_corpus
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import evaluate
from transformer_lessons.training.precision import GradScaler
from transformer_lessons.training.state import set_random_state, trainer_state
from transformer_lessons.training.trainer import Trainer

# 32 numbers per token, so that dropout isn't faded out.
CONFIG = ModelConfig(256, 8, d_model=32, n_layers=1, n_heads=2, d_ff=32, dropout=0.2)
STEPS = 12
TEXT = bytes(range(97, 123)) * 4  # 13 windows of 8 tokens: 3 batches of 4 are less than an epoch


def from_tokens(folder, workers):
    path = folder / "text.npy"
    if not path.exists():
        (folder / "text.txt").write_bytes(TEXT)
        tokenize_corpus(folder / "text.txt", ByteTokenizer(), path)
    windows = TokenWindows(open_tokens(path), 8)
    loader = WindowLoader(windows, batch_size=4, seed=1, n_workers=workers)
    return loader, loader


def from_random_windows(folder):
    batches = CountedBatches(lambda: random_windows(torch.tensor(list(TEXT)), 8, batch_size=4))
    return batches, batches


def from_pairs(folder):
    pairs = [(b"ab", b"cd" * n) for n in range(1, 4)] + [(b"x", b"y")]
    batches = CountedBatches(lambda: pair_batches(pairs, 8, batch_size=3))
    return batches, batches


class Texts:
    """Documents that are read one after another."""

    name = "texts"

    def read(self, start):
        return iter([TEXT[i : i + 11].decode() for i in range(0, 90, 9)][start:])


def from_stream(folder):
    stream = TokenStream(Texts(), ByteTokenizer(), 8, batch_size=4, validation=0.2)
    return stream, stream


def new_trainer(folder, source, choices, resume):
    """What a process begins with; one that goes on has other random numbers and another model."""
    torch.manual_seed(random.SystemRandom().randrange(2**32) if resume else 0)
    batches, position = source(folder)
    model = Decoder(CONFIG)
    held_out = torch.tensor(list(TEXT[:40]))

    def validate():
        return evaluate(model, consecutive_windows(held_out, 8, batch_size=2))

    config = TrainConfig(**{"steps": STEPS, "warmup_steps": 2, "learning_rate": 0.01, **choices})
    return Trainer(model, config, batches, evaluate=validate, data_state=position)


def train(folder, run, source, choices, last, resume):
    """One process of a run: it trains until step `last`, and saves there; the SHA-256 of it all."""
    trainer = new_trainer(folder, source, choices, resume)
    if resume:
        resume_run(run, trainer)
    else:
        run.mkdir()
        begin_run(run, {}, ByteTokenizer())

    def on_step(report):
        record_step(run, trainer, report)
        trainer.stop = report.step == last

    trainer.on_step = on_step
    trainer.fit()
    save_run(run, trainer)
    found = digest(trainer)
    if hasattr(trainer.batches, "close"):  # the processes that read ahead end with it
        trainer.batches.close()
    return found


def digest(trainer):
    """SHA-256 of all numbers of a run: the model, the averages, the random numbers, the rest."""
    hashed = hashlib.sha256()

    def add(value):
        if isinstance(value, torch.Tensor):
            hashed.update(value.detach().contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in sorted(value):
                hashed.update(key.encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            hashed.update(repr(value).encode())

    add(trainer.model.state_dict())
    add(trainer_state(trainer))
    return hashed.hexdigest()


def log_of(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def assert_exact(folder, source, choices, stops):
    """Run it whole, and in parts that end at `stops`; both are the same run."""
    whole = train(folder, folder / "whole", source, choices, STEPS, resume=False)
    for index, last in enumerate([*stops, STEPS]):
        parts = train(folder, folder / "parts", source, choices, last, resume=index > 0)
    assert log_of(folder / "whole") == log_of(folder / "parts")
    assert [line["step"] for line in log_of(folder / "whole")] == list(range(1, STEPS + 1))
    assert whole == parts


SOURCES = {
    "token file": lambda folder: from_tokens(folder, 0),
    "random windows": from_random_windows,
    "pairs": from_pairs,
    "stream": from_stream,
}
CHOICES = {
    "plain": {},
    "grad_accum_steps": {"grad_accum_steps": 3},
    "muon": {"optimizer": "muon", "weight_decay": 0.1},
    "fp16": {"precision": "fp16"},
    "bf16, rows": {"precision": "bf16", "loss_chunk_size": 5},
    "fused": {"fused": True},
    "held out": {"eval_every": 2, "patience": 99},
    "warm-up, stable, decay": {"schedule": "wsd", "max_grad_norm": 0.1},
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("stops", [[1], [5, 6]])
def test_every_source_goes_on_exactly(tmp_path, source, stops):  # SPEC E9 G8
    assert_exact(tmp_path, SOURCES[source], {}, stops)


@pytest.mark.parametrize("choices", CHOICES)
def test_every_choice_goes_on_exactly(tmp_path, choices):  # SPEC E9 G8
    assert_exact(tmp_path, SOURCES["token file"], CHOICES[choices], stops=[4, 7])


@pytest.mark.parametrize("choices", ["plain", "grad_accum_steps"])
def test_workers_that_read_ahead_change_nothing(tmp_path, choices):  # SPEC E9 G8
    """Two processes read; the run may also go on with another number of them."""
    whole = train(
        tmp_path, tmp_path / "whole", SOURCES["token file"], CHOICES[choices], STEPS, resume=False
    )
    for index, (workers, last) in enumerate([(2, 4), (2, 5), (0, STEPS)]):
        parts = train(
            tmp_path,
            tmp_path / "parts",
            lambda folder, workers=workers: from_tokens(folder, workers),
            CHOICES[choices],
            last,
            resume=index > 0,
        )
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "parts")
    assert whole == parts


@pytest.mark.parametrize("stops", [[], [3, 4]])
def test_a_scale_that_was_halved_goes_on_halved(tmp_path, stops, monkeypatch):  # SPEC S5 G8
    """The first steps are left out, because their scaled gradients overflow."""
    monkeypatch.setattr(GradScaler.__init__, "__defaults__", (2.0**24, 0))
    assert_exact(tmp_path, from_random_windows, {"precision": "fp16"}, stops)
    scaler = load_checkpoint(tmp_path / "whole").training["scaler"]
    assert scaler["scale"] < 2.0**22
    assert scaler["n_good"] > 0


@pytest.mark.parametrize("part", ["optimizers", "random", "data", "n_steps", "scaler"])
def test_each_part_of_the_state_is_needed(tmp_path, part):  # SPEC A7
    """Left as a new process has it, any part makes another run: the test above would see it."""
    choices = {"precision": "fp16"} if part == "scaler" else {}
    results = []
    for leave_out in (None, part):
        run = tmp_path / str(leave_out)
        train(tmp_path, run, from_random_windows, choices, 5, resume=False)
        trainer = new_trainer(tmp_path, from_random_windows, choices, resume=True)
        fresh = trainer_state(trainer)
        resume_run(run, trainer)
        if leave_out == "optimizers":
            for optimizer in trainer.optimizers:
                optimizer.state.clear()
        elif leave_out == "random":
            set_random_state(fresh["random"])
        elif leave_out == "data":
            trainer.data_state.load_state_dict(fresh["data"])
        elif leave_out == "n_steps":
            trainer.n_steps = 0
        elif leave_out == "scaler":
            trainer.scaler = GradScaler(**fresh["scaler"])
        trainer.on_step = lambda report, t=trainer: setattr(t, "stop", report.step == STEPS)
        trainer.fit()
        results.append(digest(trainer))
    assert results[0] != results[1]
