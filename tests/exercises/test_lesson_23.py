"""The references of lesson 23 against the package, and numbers worked out by hand."""

import math

import pytest
import torch

from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.training import dpo_loss, group_advantages, sequence_log_probability


def exercise(name):
    return find_exercise(f"23.{name}")


def reference(name):
    return exercise(name).reference


def test_lesson_23_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("23")] == [
        "23.log_probability",
        "23.policy_gradient",
        "23.advantages",
        "23.best_policy",
        "23.dpo",
        "23.does_something",
    ]


@pytest.mark.parametrize("case", exercise("log_probability").cases)
def test_the_log_probability_is_the_packages(case):  # SPEC G4, G5
    logits, targets = case
    targets = torch.tensor([targets])
    found = sequence_log_probability(lambda _: logits[None], targets.clamp(min=0), targets)
    assert reference("log_probability")(*case) == pytest.approx(found.item(), abs=1e-5)


@pytest.mark.parametrize("case", exercise("policy_gradient").cases)
def test_the_gradient_is_autograds(case):  # SPEC G4, G5
    logits, rewards = case[0].clone().requires_grad_(), case[1]
    (logits.softmax(0) * rewards).sum().backward()
    torch.testing.assert_close(reference("policy_gradient")(*case), logits.grad)


@pytest.mark.parametrize("case", exercise("advantages").cases)
def test_the_advantages_are_the_packages(case):  # SPEC G4, G5
    rewards, group_size = case
    found = group_advantages(torch.tensor(rewards), group_size).tolist()
    assert reference("advantages")(*case) == pytest.approx(found)


@pytest.mark.parametrize("case", exercise("best_policy").cases)
def test_the_best_policy_is_better_than_all_others_near_it(case):  # SPEC G4, G5
    base, rewards, beta = case
    best = reference("best_policy")(*case)

    def objective(p):
        return ((p * rewards).sum() - beta * (p * (p / base).log()).sum()).item()

    assert best.sum().item() == pytest.approx(1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = (best.log() + 0.1 * torch.randn(best.shape, generator=generator)).softmax(0)
        assert objective(other) < objective(best)


@pytest.mark.parametrize("case", exercise("dpo").cases)
def test_the_loss_of_a_pair_is_the_packages(case):  # SPEC G4, G5
    *log_p, beta = case
    found = dpo_loss(*torch.tensor(log_p).double()[:, None], beta)
    assert reference("dpo")(*case) == pytest.approx(found.item())


def test_numbers_by_hand():  # SPEC G4, G5
    assert reference("dpo")(-5.0, -7.0, -5.0, -7.0, 0.1) == pytest.approx(math.log(2))
    best = reference("best_policy")(torch.tensor([0.5, 0.5]), torch.tensor([math.log(3), 0.0]), 1.0)
    assert best.tolist() == pytest.approx([0.75, 0.25])
    does_something = reference("does_something")
    verdicts = [does_something(*case) for case in exercise("does_something").cases]
    assert verdicts == [False, True, False, False, False, False, True, True, True]
