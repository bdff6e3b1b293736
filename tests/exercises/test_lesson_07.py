"""The references of lesson 07 against the package, PyTorch and numbers worked out by hand."""

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from transformer_lessons.exercises.exercise import find_exercise
from transformer_lessons.exercises.grader import grade
from transformer_lessons.model.attention import attend, split_heads


def exercise(name):
    return find_exercise(f"07.{name}")


def reference(name):
    return exercise(name).reference


def test_lesson_07_has_its_exercises():  # SPEC G4
    names = ["soft_lookup", "softmax_rows", "attend", "split_heads", "leaks", "score_gradient"]
    assert [exercise(name).id for name in names] == [f"07.{name}" for name in names]


@pytest.mark.parametrize("case", exercise("soft_lookup").cases)
def test_lookup_is_the_packages_with_one_query(case):  # SPEC G4
    query, keys, values = case
    everything = torch.ones(1, len(keys), dtype=torch.bool)
    expected = attend(query[None], keys, values, everything)[0]
    torch.testing.assert_close(reference("soft_lookup")(*case), expected)


def test_lookup_by_hand():  # SPEC G4
    query, keys = torch.tensor([math.sqrt(2) * math.log(3), 0.0]), torch.eye(2)
    found = reference("soft_lookup")(query, keys, torch.tensor([[4.0, 0], [0, 4]]))
    torch.testing.assert_close(found, torch.tensor([3.0, 1.0]))  # 3/4 and 1/4


@pytest.mark.parametrize("case", exercise("softmax_rows").cases)
def test_softmax_is_pytorchs(case):  # SPEC G4
    torch.testing.assert_close(reference("softmax_rows")(*case), case[0].softmax(dim=1))


def test_softmax_by_hand():  # SPEC G4
    expected = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    torch.testing.assert_close(
        reference("softmax_rows")(*exercise("softmax_rows").cases[0]), expected
    )


@pytest.mark.parametrize("case", exercise("attend").cases)
def test_attend_is_the_packages_and_pytorchs(case):  # SPEC G4
    found = reference("attend")(*case)
    torch.testing.assert_close(found, attend(*case))
    q, k, v, mask = case
    oracle = scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask)[0]
    torch.testing.assert_close(found, oracle)


@pytest.mark.parametrize("case", exercise("split_heads").cases)
def test_split_is_the_packages(case):  # SPEC G4
    assert torch.equal(reference("split_heads")(*case), split_heads(*case))


def test_split_by_hand():  # SPEC G4
    x = torch.tensor([[[1, 2, 3, 4], [5, 6, 7, 8]]])
    assert reference("split_heads")(x, 2).tolist() == [[[[1, 2], [5, 6]], [[3, 4], [7, 8]]]]


def test_which_outputs_give_a_leak_away():  # SPEC G4
    found = [reference("leaks")(*case).nonzero().flatten() for case in exercise("leaks").cases]
    assert [positions.tolist() for positions in found] == [[], [1], [2], [0, 1], [0]]


@pytest.mark.parametrize("case", exercise("score_gradient").cases)
def test_gradient_is_autograds(case):  # SPEC G4
    weights, gradient = (x.double() for x in case)
    scores = weights.log().requires_grad_()  # the softmax of these is `weights` again
    (expected,) = torch.autograd.grad((scores.softmax(dim=1) * gradient).sum(), scores)
    torch.testing.assert_close(reference("score_gradient")(weights, gradient), expected)


def test_gradient_by_hand():  # SPEC G4
    found = reference("score_gradient")(torch.tensor([[0.75, 0.25]]), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.1875, -0.1875]]))  # 3/4 * 1/4


def test_other_ways_of_being_right_pass():  # SPEC G4
    def leaks(before, after, changed):
        moved = (after - before).abs().amax(dim=1) > 1e-5
        moved[changed:] = False
        return moved

    def score_gradient(weights, weight_gradient):
        jacobian = torch.diag_embed(weights) - weights[:, :, None] * weights[:, None, :]
        return (jacobian @ weight_gradient[:, :, None])[:, :, 0]

    def split(x, n_heads):
        return x.view(*x.shape[:2], n_heads, -1).permute(0, 2, 1, 3)

    assert grade(exercise("leaks"), leaks).correct
    assert grade(exercise("score_gradient"), score_gradient).correct
    assert grade(exercise("split_heads"), split).correct
    assert grade(exercise("softmax_rows"), lambda scores: scores.softmax(dim=-1)).correct


def test_a_softmax_by_way_of_the_logarithm_is_right():  # SPEC G4
    def shares(scores):
        return (scores - scores.logsumexp(1, keepdim=True)).exp()

    assert grade(exercise("softmax_rows"), shares).correct
