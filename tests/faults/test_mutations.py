"""Checkpoints changed at random: a value or `LessonsError`, nothing else, and little memory."""

import hashlib
import json
import random
import resource
import time

import pytest
import torch

from transformer_lessons.cli.run_folder import begin_run, best_checkpoint, save_run
from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import CountedBatches, random_windows
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.support.checkpoint_files import contents_sha256
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import Evaluation
from transformer_lessons.training.state import random_state, restore_trainer, set_random_state
from transformer_lessons.training.trainer import Trainer

CONFIG = ModelConfig(30, 4, d_model=4, n_layers=1, n_heads=1, d_ff=4)
FILES = ("checkpoint.json", "model.safetensors", "training.safetensors")
VALUES = (
    *(None, True, -1, 0, 10**9, 10**400, 2**63, 2**31, -(2**31), 1e308, 1.5, "", "x", "../x"),
    *([], {}, [[]], {"tensor": "x"}, {"tensor": []}, float("inf"), float("nan"), "\ud800", "\0"),
)


def make_trainer():
    torch.manual_seed(0)
    batches = CountedBatches(lambda: random_windows(torch.arange(60) % 30, 4, batch_size=2))
    losses = iter([2.0, 1.0, 3.0])
    config = TrainConfig(steps=3, precision="fp16", eval_every=1)

    def evaluate():
        return Evaluation(next(losses), 1)

    return Trainer(Decoder(CONFIG), config, batches, evaluate=evaluate, data_state=batches)


@pytest.fixture
def saved(tmp_path):
    begin_run(tmp_path, {}, ByteTokenizer())
    trainer = make_trainer()
    trainer.fit()
    return save_run(tmp_path, trainer)


def places(value, path=()):
    """Where in a JSON document something stands: the keys that lead to it."""
    yield path
    keys = value if isinstance(value, dict) else ()
    for key in range(len(value)) if isinstance(value, list) else keys:
        yield from places(value[key], (*path, key))


def change_document(dice, data):
    """JSON in which a few values are others, or gone, or there twice."""
    document = json.loads(data)
    for _ in range(dice.randint(1, 2)):
        *path, last = dice.choice([path for path in places(document) if path])
        inside = document
        for key in path:
            inside = inside[key]
        kind = dice.randrange(4)
        if kind == 0:
            del inside[last]
        elif kind == 1 and isinstance(inside, dict):
            inside[dice.choice(["x", "", "99", last + "x"])] = inside[last]
        else:
            inside[last] = dice.choice(VALUES)
    return json.dumps(document).encode()


def change_bytes(dice, data):
    """A few bytes are others, or the file is cut or made longer."""
    data = bytearray(data)
    if dice.random() < 0.1:
        return bytes(data[: dice.randrange(len(data))])
    if dice.random() < 0.05:
        return bytes(data) + dice.randbytes(dice.randint(1, 300))
    for _ in range(dice.randint(1, 3)):  # in the JSON, or in the header of the tensors
        place = dice.randrange(min(len(data), 4_000))
        data[place] = dice.choice(b'"{}[]:,019.eaN \x00\xff') if dice.random() < 0.8 else 0x80
    return bytes(data)


def vouch_for(saved):
    """Make sizes and checksums right again, as someone who means harm would."""
    try:
        about = json.loads((saved / "checkpoint.json").read_bytes())
        for name in about["files"]:
            data = (saved / name).read_bytes()
            hashed = hashlib.sha256(data).hexdigest()
            about["files"][name] = {"bytes": len(data), "sha256": hashed}
        about["sha256"] = contents_sha256(about)
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        return
    (saved / "checkpoint.json").write_text(json.dumps(about))


def outcome(function):
    """ "fine" or "refused"; any other exception is a failure of the test."""
    try:
        function()
    except LessonsError:
        return "refused"
    return "fine"


def load_and_go_on(saved):
    """All that is done with a checkpoint: load it, go on from it, look for the best one."""
    loaded = load_checkpoint(saved)
    if loaded.training is not None:
        outcome(lambda: restore_trainer(make_trainer(), loaded.training))
        random_state()  # what was put there can be looked at
        torch.rand(1)
    outcome(lambda: best_checkpoint(saved.parent))


def peak_gigabytes():
    """The most memory that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def test_a_mutated_checkpoint_loads_or_is_refused(saved, tries):  # SPEC S9
    n_tries, dice, outcomes, slowest = tries(300, 10_000), random.Random(0), [], 0.0
    files = {name: (saved / name).read_bytes() for name in FILES}
    before, peak_before = random_state(), peak_gigabytes()
    for _ in range(n_tries):
        name = dice.choice((*FILES, "checkpoint.json"))
        change = change_bytes
        if name == "checkpoint.json" and dice.random() < 0.7:
            change = change_document
        (saved / name).write_bytes(change(dice, files[name]))
        if dice.random() < 0.8:
            vouch_for(saved)
        start = time.perf_counter()
        outcomes.append(outcome(lambda: load_and_go_on(saved)))
        slowest = max(slowest, time.perf_counter() - start)
        for name, data in files.items():
            (saved / name).write_bytes(data)
    set_random_state(before)
    grown = peak_gigabytes() - peak_before
    n_fine = outcomes.count("fine")
    print(f"{n_tries} mutations: {n_fine} loaded, {n_tries - n_fine} refused")
    print(f"slowest {slowest:.2f} s, peak memory grown by {grown:.2f} GB")
    assert n_tries / 50 < n_fine < n_tries * 0.98  # both ends were reached
    assert grown < 1.0
