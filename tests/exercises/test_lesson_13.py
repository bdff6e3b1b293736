"""The references of lesson 13 against the package, PyTorch and numbers worked out by hand."""

import itertools
import math
import random

import pytest
import torch

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.training.clipping import clip_grad_norm
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import Evaluation
from transformer_lessons.training.precision import GradScaler
from transformer_lessons.training.trainer import Trainer, accumulate_gradients


def exercise(name):
    return find_exercise(f"13.{name}")


def reference(name):
    return exercise(name).reference


def test_lesson_13_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("13")] == [
        "13.piece_weights",
        "13.clipped_sum",
        "13.to_bfloat16",
        "13.follow_scale",
        "13.stop_early",
        "13.bits_per_byte",
    ]


def test_weights_by_hand():  # SPEC G4, E7
    assert reference("piece_weights")([1, 3]) == [0.25, 0.75]
    assert reference("piece_weights")([5]) == [1.0]


@pytest.mark.parametrize("case", exercise("piece_weights").cases)
def test_weights_are_those_of_the_packages_accumulation(case):  # SPEC G4, E7
    (counts,) = case
    # One parameter a piece, whose mean loss it is: its slope is the weight of that mean.
    means = torch.ones(len(counts), requires_grad=True)

    def surprise(piece, targets):
        return means[piece] * (targets != IGNORE).sum()

    batches = []
    for piece, count in enumerate(counts):
        targets = torch.full((max(counts) + 2,), IGNORE)
        targets[:count] = 1
        batches.append((piece, targets))
    accumulate_gradients(surprise, batches)
    assert reference("piece_weights")(counts) == pytest.approx(means.grad.tolist())


@pytest.mark.parametrize("case", exercise("clipped_sum").cases)
def test_clipping_is_the_packages_after_adding(case):  # SPEC G4, E7
    parts, limit = case
    parameter = torch.nn.Parameter(torch.zeros_like(parts[0]))
    for part in parts:
        (parameter * part).sum().backward()
    clip_grad_norm([parameter], limit)
    torch.testing.assert_close(reference("clipped_sum")(*case), parameter.grad)


def test_clipping_by_hand():  # SPEC G4
    three_four = torch.tensor([3.0, 4.0])
    assert reference("clipped_sum")([three_four], 1.0).tolist() == pytest.approx([0.6, 0.8])
    halves = [three_four / 100, three_four / 100]
    assert reference("clipped_sum")(halves, 1.0).tolist() == pytest.approx([0.06, 0.08])


def test_rounding_is_torchs():  # SPEC G4
    dice = random.Random(0)
    # Numbers that float32 holds exactly, so that they are rounded once only.
    numbers = [dice.choice((-1, 1)) * 2.0 ** dice.randint(-90, 90) for _ in range(300)]
    numbers = [x * dice.randrange(2**23, 2**24) / 2**23 for x in numbers]
    numbers += [1 + n / 256 for n in range(256)]  # every other one is halfway between two
    expected = torch.tensor(numbers).bfloat16().tolist()
    assert [reference("to_bfloat16")(x) for x in numbers] == expected


def test_cases_of_rounding_have_one_that_is_halfway():  # SPEC G4
    assert reference("to_bfloat16")(257.0) == 256.0
    assert reference("to_bfloat16")(259.0) == 260.0


def test_the_scale_is_the_packages():  # SPEC G4
    dice = random.Random(0)
    finite = [dice.random() > 0.0002 for _ in range(15_000)]
    scaler, expected = GradScaler(2.0**30), []
    for is_finite in finite:
        scaler.update(is_finite)
        expected.append(scaler.scale)
    assert reference("follow_scale")(finite, 2.0**30, 2000) == expected
    changes = {after / before for before, after in itertools.pairwise(expected)}
    assert changes == {0.5, 1.0, 2.0}


def test_the_scale_by_hand():  # SPEC G4
    assert reference("follow_scale")([True, True, False, True], 8.0, 2) == [8, 16, 8, 8]


@pytest.mark.parametrize("case", exercise("stop_early").cases)
def test_stopping_is_the_trainers(case):  # SPEC G4, E5
    losses, patience = case
    model = torch.nn.Linear(1, 1)
    config = TrainConfig(steps=len(losses), eval_every=1, patience=patience)
    looks = iter(losses)
    trainer = Trainer(model, config, [], validate=lambda: Evaluation(next(looks), 1))
    while trainer.n_steps < len(losses) and not trainer.stop:
        trainer.n_steps += 1
        trainer.look_at_held_out()
    assert reference("stop_early")(*case) == (trainer.n_steps, trainer.best_step - 1)


def test_stopping_by_hand():  # SPEC G4
    assert reference("stop_early")([3.0, 2.0, 2.5, 1.0], 1) == (3, 1)
    assert reference("stop_early")([3.0, 2.0, 2.5, 1.0], 2) == (4, 3)


@pytest.mark.parametrize("case", exercise("bits_per_byte").cases)
def test_bits_are_the_packages(case):  # SPEC G4, E5
    assert reference("bits_per_byte")(*case) == pytest.approx(Evaluation(*case).bits_per_byte)


def test_bits_by_hand():  # SPEC G4, E5
    assert reference("bits_per_byte")(math.log(4), 50, 100) == pytest.approx(1)
