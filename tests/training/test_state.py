"""What a run is besides the model: taken apart, put back, and refused where it doesn't fit."""

import copy
import json
import math
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import CountedBatches, random_windows
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.support.checkpoint_files import flatten, unflatten
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.state import (
    random_state,
    restore_trainer,
    set_random_state,
    trainer_state,
)
from transformer_lessons.training.trainer import Trainer

CONFIG = ModelConfig(20, context_length=8, d_model=8, n_layers=1, n_heads=2, d_ff=16)
SIZES = {"steps": 9, "eval_every": 0}

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TENSORS = st.builds(lambda n: torch.arange(n).float(), st.integers(0, 3))
STATES = st.recursive(
    PLAIN | TENSORS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


def has_reserved_form(value):
    """Whether a dict in `value` looks like the mark that a tensor leaves behind."""
    if isinstance(value, dict):
        return set(value) == {"tensor"} or any(map(has_reserved_form, value.values()))
    return isinstance(value, list) and any(map(has_reserved_form, value))


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(STATES)
def test_tensors_are_taken_out_and_put_back(state):  # SPEC A7
    if has_reserved_form(state):
        return
    tensors = {}
    text = json.dumps(flatten(state, "state", tensors))
    assert same(unflatten(json.loads(text), tensors), state)


def make_trainer(has_place=True, **choices):
    torch.manual_seed(0)
    tokens = torch.arange(300) % 20
    batches = CountedBatches(lambda: random_windows(tokens, 8, batch_size=4))
    config = TrainConfig(**{**SIZES, **choices})
    return Trainer(Decoder(CONFIG), config, batches, data_state=batches if has_place else None)


def state_after(n_steps, **choices):
    trainer = make_trainer(**choices)
    trainer.on_step = lambda report: setattr(trainer, "stop", report.step == n_steps)
    trainer.fit()
    return copy.deepcopy(trainer_state(trainer))


def test_a_state_has_every_part():  # SPEC A7 E9
    state = state_after(3, precision="fp16", optimizer="muon")
    assert state["n_steps"] == 3
    assert state["data"] == {"n_taken": 3}
    assert state["scaler"] == {"scale": 65536.0, "n_good": 3}
    assert [len(part) for part in state["optimizers"]] == [4, 13]  # 4 matrices in the block
    assert state["random"].keys() >= {"torch", "cuda"}
    assert state["best"] is None
    assert state["config"]["optimizer"] == "muon"


CHANGES = {
    "steps": 10,
    "batch_size": 3,
    "grad_accum_steps": 2,
    "learning_rate": 0.1,
    "min_learning_rate": 0.0,
    "warmup_steps": 1,
    "schedule": "wsd",
    "optimizer": "muon",
    "beta1": 0.5,
    "beta2": 0.5,
    "weight_decay": 0.1,
    "max_grad_norm": 0.5,
    "precision": "bf16",
    "compile": True,
    "fused": True,
    "loss_chunk_size": 3,
    "eval_every": 1,
    "patience": 1,
    "sequence_length": 3,
    "seed": 1,
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_choice_is_refused_by_name(name, monkeypatch):  # SPEC A7 G8
    monkeypatch.setattr(torch, "compile", lambda function: function)
    with pytest.raises(LessonsError, match=rf"^{name} = .* in the checkpoint, .*\.{name}\)\. Resu"):
        restore_trainer(make_trainer(**{name: CHANGES[name]}), state_after(1))


def test_how_often_to_save_may_change_and_no_more_is_left_unchecked():
    trainer = make_trainer(save_every=5, keep=7)
    restore_trainer(trainer, state_after(2))
    assert trainer.n_steps == 2
    assert {*CHANGES, "save_every", "keep"} == set(trainer.config.to_dict())


def first_average(state):
    return state["optimizers"][0]["0"]


BAD = {
    "nothing": lambda s: s.clear(),
    "no optimizers": lambda s: s.pop("optimizers"),
    "too few optimizers": lambda s: s["optimizers"].clear(),
    "too many optimizers": lambda s: s["optimizers"].append({}),
    "an optimizer that is a list": lambda s: s["optimizers"].__setitem__(0, [1]),
    "a parameter too many": lambda s: s["optimizers"][0].update({"99": first_average(s)}),
    "a parameter that is no number": lambda s: s["optimizers"][0].update(x=first_average(s)),
    "an average of another shape": lambda s: first_average(s).update(exp_avg=torch.zeros(2)),
    "an average that is no tensor": lambda s: first_average(s).update(exp_avg=3.0),
    "an average missing": lambda s: first_average(s).pop("exp_avg"),
    "an average too many": lambda s: first_average(s).update(exp=first_average(s)["exp_avg"]),
    "an average of words": lambda s: s["optimizers"][0].update({"0": "x"}),
    "a step of several numbers": lambda s: first_average(s).update(step=torch.zeros(3)),
    "no place in the data": lambda s: s.update(data=None),
    "another place in the data": lambda s: s.update(data={"n_taken": -1}),
    "a place that is a word": lambda s: s.update(data="x"),
    "no step": lambda s: s.update(n_steps=None),
    "a negative step": lambda s: s.update(n_steps=-1),
    "a step that is no integer": lambda s: s.update(n_steps=1.5),
    "an infinite step": lambda s: s.update(n_steps=math.inf),
    "a step beyond the last": lambda s: s.update(n_steps=10),
    "a best that is a word": lambda s: s.update(best="x"),
    "a best without a step": lambda s: s.update(best=[1.0]),
    "a best after infinity": lambda s: s.update(best=[1.0, math.inf, 0]),
    "a best with a word": lambda s: s.update(best=[1.0, 1, "x"]),
    "no scale": lambda s: s.update(scaler=None),
    "a scale of nothing": lambda s: s.update(scaler={"scale": 0.0, "n_good": 0}),
    "an infinite scale": lambda s: s.update(scaler={"scale": math.inf, "n_good": 0}),
    "a count of infinity": lambda s: s.update(scaler={"scale": 1.0, "n_good": math.inf}),
    "no random numbers": lambda s: s.pop("random"),
    "random numbers that are none": lambda s: s.update(random=5),
    "no config": lambda s: s.update(config=None),
    "an impossible config": lambda s: s["config"].update(steps=0),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_state_is_refused(name):  # SPEC S9
    state = state_after(2, precision="fp16")
    BAD[name](state)
    trainer = make_trainer(precision="fp16")
    with pytest.raises(LessonsError):
        restore_trainer(trainer, state)


@pytest.mark.parametrize("at", ["checkpoint", "trainer"])
def test_a_place_in_the_data_must_be_known_to_both(at):  # SPEC A7
    state = state_after(1, has_place=at == "checkpoint")
    with pytest.raises(LessonsError, match=r"^the place in the data is known to one of checkpoint"):
        restore_trainer(make_trainer(has_place=at == "trainer"), state)


def test_a_run_that_lost_patience_stays_stopped():  # SPEC S5
    losses = iter([3.0, 3.0, 3.0])
    choices = {"eval_every": 1, "patience": 2, "steps": 9}
    trainers = [make_trainer(**choices), make_trainer(**choices)]
    for trainer in trainers:
        trainer.evaluate = lambda: type("Found", (), {"loss": next(losses)})
    assert len(trainers[0].fit()) == 3
    restore_trainer(trainers[1], copy.deepcopy(trainer_state(trainers[0])))
    assert (trainers[1].best, trainers[1].best_step, trainers[1].bad_evals) == (3.0, 1, 2)
    assert trainers[1].fit() == []


def test_the_data_goes_on_where_it_was():  # SPEC A7
    trainer = make_trainer()
    restore_trainer(trainer, state_after(3))
    whole = list(islice(random_windows(torch.arange(300) % 20, 8, batch_size=4), 4))
    assert torch.equal(next(iter(trainer.batches))[0], whole[3][0])


# Random numbers


def draw():
    """The normal distribution draws two numbers, and keeps one for later."""
    return torch.rand(3).tolist() + torch.randn(1).tolist()


@pytest.mark.parametrize("n_before", [0, 1, 700])  # 624 numbers are made at a time
def test_the_generator_goes_on_where_it_was(n_before):  # SPEC A7 E9
    for _ in range(n_before + 1):
        draw()
    tensors = {}
    text = json.dumps(flatten(random_state(), "random", tensors))
    expected = [draw() for _ in range(3)]
    torch.manual_seed(99)
    assert draw() != expected[0]
    set_random_state(unflatten(json.loads(text), tensors))
    assert [draw() for _ in range(3)] == expected


BAD_RANDOM = {
    "nothing": lambda s: s.clear(),
    "no torch": lambda s: s.pop("torch"),
    "too short": lambda s: s.update(torch=torch.zeros(3, dtype=torch.uint8)),
    "other numbers": lambda s: s.update(torch=torch.zeros(5056)),
    "all zeros": lambda s: s.update(torch=torch.zeros(5056, dtype=torch.uint8)),
    "no tensor": lambda s: s.update(torch=[1, 2]),
    "GPUs that are a number": lambda s: s.update(cuda=3),
}


@pytest.mark.parametrize("name", BAD_RANDOM)
def test_what_is_no_random_state_is_refused(name):  # SPEC S9
    good, bad = random_state(), random_state()
    BAD_RANDOM[name](bad)
    try:
        with pytest.raises(LessonsError, match=r"this is no state of random numbers.*\(random\)"):
            set_random_state(bad)
    finally:
        set_random_state(good)
