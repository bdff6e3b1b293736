"""The references of lesson 24 against the package, and numbers worked out by hand."""

import pytest
import torch

from transformer_lessons.analysis import (
    activation_patching,
    activations,
    direct_logit_attribution,
    head_ablation,
    induction_scores,
    logit_lens,
    residual_parts,
    residual_streams,
)
from transformer_lessons.config import ModelConfig
from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises

CONFIG = ModelConfig(
    11, context_length=8, d_model=12, n_layers=2, n_heads=3, d_ff=8, norm="rms", head_bias=False
)
TOKENS = torch.tensor([[1, 4, 2, 9, 1, 4, 2, 9]])


def exercise(name):
    return find_exercise(f"24.{name}")


def reference(name):
    return exercise(name).reference


@pytest.fixture
def model(random_model):
    return random_model(CONFIG, size=0.4)


def test_lesson_24_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("24")] == [
        "24.induction_score",
        "24.logit_lens",
        "24.attribution",
        "24.mean_ablation",
        "24.patch",
        "24.effect",
    ]


@pytest.mark.parametrize("case", exercise("induction_score").cases)
def test_the_score_is_the_packages(case):  # SPEC G4, G5
    pattern, period = case
    expected = induction_scores(torch.tensor(pattern)[None, None, None].double(), period)
    assert reference("induction_score")(*case) == pytest.approx(expected.item(), abs=1e-7)


def test_the_score_by_hand():  # SPEC G4, G5
    pattern = [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.1, 0.6, 0.3, 0], [0.0, 0.1, 0.8, 0.1]]
    assert reference("induction_score")(pattern, 2) == pytest.approx((0.6 + 0.8) / 2)


def test_the_lens_is_the_packages(model):  # SPEC G4, G5
    streams, norm = residual_streams(model, TOKENS)[:, 0, 5], model.final_norm
    with torch.inference_mode():
        mine = reference("logit_lens")(streams, norm.weight, norm.eps, model.head.weight)
    torch.testing.assert_close(mine, logit_lens(model, TOKENS)[:, 0, 5], rtol=0, atol=1e-12)


def test_the_lens_by_hand():  # SPEC G4, G5
    streams = torch.tensor([[3.0, 4.0], [30.0, 40.0]])  # both of the direction (3, 4), size 5 / √2
    mine = reference("logit_lens")(streams, torch.tensor([1.0, 2.0]), 0.0, torch.eye(2))
    torch.testing.assert_close(mine, torch.tensor([[3.0, 8.0]] * 2) * 2**0.5 / 5)


def test_the_attribution_is_the_packages(model):  # SPEC G4, G5
    parts, norm = residual_parts(model, TOKENS), model.final_norm
    stacked = torch.stack([part[0, -1] for part in parts.values()])
    with torch.inference_mode():
        mine = reference("attribution")(stacked, norm.weight, norm.eps, model.head.weight[7])
    theirs = direct_logit_attribution(model, TOKENS, 7)
    for name, share in zip(parts, mine, strict=True):
        torch.testing.assert_close(share, theirs[name][0], rtol=0, atol=1e-12)


def test_the_attribution_by_hand():  # SPEC G4, G5
    parts = torch.tensor([[1.0, 0.0], [2.0, 4.0]])  # they add up to (3, 4)
    mine = reference("attribution")(parts, torch.ones(2), 0.0, torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(mine, torch.tensor([1.0, -2.0]) * 2**0.5 / 5)


def test_the_ablation_is_the_packages(model):  # SPEC G4, G5
    name = "blocks.1.attention.out"
    mixed = activations(model, TOKENS)[name][0][0]
    with head_ablation(model, [(1, 2)], TOKENS):
        theirs = activations(model, TOKENS)[name][0][0]
    torch.testing.assert_close(reference("mean_ablation")(mixed, 3, 2), theirs)


def test_the_ablation_by_hand():  # SPEC G4, G5
    mixed = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    expected = [[3.0, 4.0, 3.0, 4.0], [3.0, 4.0, 7.0, 8.0]]
    assert reference("mean_ablation")(mixed, 2, 0).tolist() == expected
    assert mixed[0, 0] == 1  # the input stays


def test_the_patch_is_the_packages(model):  # SPEC G4, G5
    other = TOKENS.flip(1)
    clean, corrupted = (activations(model, x)["blocks.0"][1] for x in (TOKENS, other))
    with activation_patching(model, {"blocks.0": clean}, [2, 5]):
        theirs = activations(model, other)["blocks.1"][0][0]
    assert torch.equal(reference("patch")(clean[0], corrupted[0], [2, 5]), theirs)


def test_the_effect_by_hand():  # SPEC G4, G5
    effect = reference("effect")
    assert effect([3.0, 1.0], [1.0, 3.0], [3.0, 1.0]) == 1
    assert effect([3.0, 1.0], [1.0, 3.0], [1.0, 3.0]) == 0
    assert effect([3.0, 1.0], [1.0, 3.0], [2.0, 3.0]) == pytest.approx(0.25)  # from -2 to -1 of 2
