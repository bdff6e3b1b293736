"""Rewards and preferences, on a world so small that every text of it can be listed.

The oracles are sums over all 64 texts of three tokens out of four; nothing here is an estimate.
"""

import fnmatch
import itertools
import math
import shlex
import textwrap
from pathlib import Path

import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import IGNORE
from transformer_lessons.errors import LessonsError
from transformer_lessons.training.preference import (
    dpo_loss,
    group_advantages,
    policy_gradient_loss,
    sequence_log_probability,
    undefined_names,
)

WORLD = torch.tensor(list(itertools.product(range(4), repeat=3)))
INPUTS = torch.cat([torch.zeros(64, 1, dtype=torch.long), WORLD[:, :2]], dim=1)


class Table(torch.nn.Module):
    """A distribution over the 64 texts, with a row of logits for each of their 21 beginnings."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logits = torch.nn.Parameter(torch.randn(21, 4, generator=generator).double())

    def forward(self, inputs):
        second, third = 1 + inputs[:, 1], 5 + 4 * inputs[:, 1] + inputs[:, 2]
        return self.logits[torch.stack([0 * second, second, third], dim=1)]


@pytest.fixture
def policy():
    return Table(seed=1)


@pytest.fixture
def rewards():
    return torch.randn(64, generator=torch.Generator().manual_seed(2)).double()


def log_p_of_all(policy):
    return sequence_log_probability(policy, INPUTS, WORLD)


def gradient(policy, value):
    return torch.autograd.grad(value, policy.logits, retain_graph=True)[0]


def score_vectors(policy):
    """The gradient of log p of each text, (64, 84)."""
    return torch.stack([gradient(policy, x).flatten() for x in log_p_of_all(policy)])


def exact_gradient(policy, rewards):
    return gradient(policy, (log_p_of_all(policy).exp() * rewards).sum())


def averaged_gradient(policy, advantages):
    """The gradient of the loss, each text counted as often as it is drawn."""
    log_p = log_p_of_all(policy)
    return gradient(policy, policy_gradient_loss(log_p, 64 * log_p.detach().exp() * advantages))


# ---- sequence_log_probability --------------------------------------------------------------------


def test_the_probabilities_of_all_texts_add_up_to_1(policy):
    assert log_p_of_all(policy).exp().sum().item() == pytest.approx(1, abs=1e-14)


def test_it_is_the_product_of_the_conditional_probabilities(policy):
    rows = policy.logits.softmax(-1)
    by_hand = rows[0, 2] * rows[1 + 2, 1] * rows[5 + 4 * 2 + 1, 3]  # of the text 2, 1, 3
    place = WORLD.tolist().index([2, 1, 3])
    assert log_p_of_all(policy)[place].exp().item() == pytest.approx(by_hand.item(), rel=1e-12)


def test_prompt_and_padding_are_read_and_not_counted(random_model):
    model = random_model(
        ModelConfig(11, context_length=8, d_model=12, n_layers=1, n_heads=3, d_ff=8)
    )
    tokens = torch.tensor([[5, 6, 7, 8, 9, 0]])
    inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
    targets[:, 0] = targets[:, 4] = IGNORE  # a prompt of two tokens, and padding
    log_p = model(inputs)[0].log_softmax(-1)
    by_hand = log_p[1, 7] + log_p[2, 8] + log_p[3, 9]
    found = sequence_log_probability(model, inputs, targets)
    torch.testing.assert_close(found, by_hand[None], rtol=0, atol=1e-12)


def test_an_answer_without_a_token_is_refused(policy):
    targets = WORLD.clone()
    targets[3] = IGNORE
    with pytest.raises(LessonsError, match="at least one real target"):
        sequence_log_probability(policy, INPUTS, targets)
    with pytest.raises(LessonsError, match=r"inputs \(64, 3\), targets \(64, 2\)"):
        sequence_log_probability(policy, INPUTS, WORLD[:, :2])


# ---- the policy gradient -------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", [0.0, 0.7, -30.0])
def test_on_average_it_is_the_gradient_of_the_expected_reward(policy, rewards, baseline):
    exact = exact_gradient(policy, rewards)
    assert exact.abs().max() > 0.01
    found = averaged_gradient(policy, rewards - baseline)
    torch.testing.assert_close(found, -exact, rtol=0, atol=1e-13)


def test_the_gradient_of_the_leash_too(policy, rewards):
    base, beta = log_p_of_all(Table(seed=5)).detach(), 0.3
    log_p = log_p_of_all(policy)
    kl = (log_p.exp() * (log_p - base)).sum()
    exact = gradient(policy, (log_p.exp() * rewards).sum() - beta * kl)
    found = averaged_gradient(policy, rewards - beta * (log_p.detach() - base))
    torch.testing.assert_close(found, -exact, rtol=0, atol=1e-13)


def test_the_optimum_with_a_leash_is_the_closed_form(policy, rewards):
    base, beta = log_p_of_all(policy).detach(), 0.5
    best = (base + rewards / beta).log_softmax(0)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.05)
    for _ in range(800):
        log_p = log_p_of_all(policy).detach()
        policy.logits.grad = averaged_gradient(policy, rewards - beta * (log_p - base))
        optimizer.step()
    torch.testing.assert_close(log_p_of_all(policy).exp(), best.exp(), rtol=0, atol=1e-4)


def test_group_means_scale_the_gradient_and_lower_its_variance(policy, rewards):
    """All 4,096 pairs of texts are groups of two. Marks around 3 are far from their mean 0."""
    marks, p, scores = rewards + 3, log_p_of_all(policy).detach().exp(), score_vectors(policy)
    first, second = torch.cartesian_prod(torch.arange(64), torch.arange(64)).T
    weight = (p[first] * p[second])[:, None]
    pairs = torch.stack([marks[first], marks[second]], dim=1)
    found = {}
    for name, a in (("plain", pairs), ("mean", group_advantages(pairs.flatten(), 2).view(-1, 2))):
        estimate = (a[:, :1] * scores[first] + a[:, 1:] * scores[second]) / 2
        mean = (weight * estimate).sum(0)
        found[name] = mean, (weight * (estimate - mean).square()).sum().item()
    exact = exact_gradient(policy, marks).flatten()
    torch.testing.assert_close(found["plain"][0], exact, rtol=0, atol=1e-13)
    # A text's own reward is half of its group's mean: half of the gradient is lost.
    torch.testing.assert_close(found["mean"][0].double(), exact / 2, rtol=0, atol=1e-6)
    assert 4 * found["mean"][1] < found["plain"][1] / 2  # compared at the same size


def test_advantages_by_hand():
    rewards = torch.tensor([3, 1, 5, 0, 0, 0])
    assert group_advantages(rewards, 3).tolist() == [0, -2, 2, 0, 0, 0]
    assert group_advantages(rewards, 2).tolist() == [1, -1, 2.5, -2.5, 0, 0]


def test_no_gradient_flows_into_the_advantages():
    log_p, advantages = (torch.ones(3, requires_grad=True) for _ in range(2))
    policy_gradient_loss(log_p, advantages).backward()
    assert advantages.grad is None
    assert log_p.grad.tolist() == pytest.approx([-1 / 3] * 3)


# ---- DPO -----------------------------------------------------------------------------------------


def test_dpo_begins_at_ln_2_with_the_gradient_of_the_derivation(policy):
    log_p, beta = log_p_of_all(policy), 0.3
    better, worse = log_p[[5, 9]], log_p[[20, 33]]
    loss = dpo_loss(better, worse, better.detach(), worse.detach(), beta)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-15)
    scores = score_vectors(policy)
    derived = beta / 2 * (scores[[20, 33]] - scores[[5, 9]]).mean(0)
    torch.testing.assert_close(gradient(policy, loss).flatten(), derived, rtol=0, atol=1e-14)


def test_the_gradient_of_dpo_weighs_a_pair_by_how_wrong_it_is():
    better, worse = torch.tensor([1.0, -2.0]).double().requires_grad_(), torch.zeros(2).double()
    dpo_loss(better, worse, worse, worse, 0.7).backward()
    expected = [-0.7 / (1 + math.exp(0.7)) / 2, -0.7 / (1 + math.exp(-1.4)) / 2]
    assert better.grad.tolist() == pytest.approx(expected, abs=1e-12)


def test_the_optimum_of_dpo_is_the_closed_form_with_a_leash(policy):
    """Three of four judges prefer the text with the reward ln 3 to one with the reward 0."""
    base, beta = log_p_of_all(policy).detach(), 0.5
    good = torch.arange(64) % 7 == 0
    i, j = torch.cartesian_prod(torch.arange(64), torch.arange(64)).T
    votes = torch.where(good[i] & ~good[j], 3, torch.where(good[i] == good[j], 2, 1))
    i, j = i.repeat_interleave(votes), j.repeat_interleave(votes)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.05)
    for _ in range(400):
        log_p = log_p_of_all(policy)
        policy.logits.grad = gradient(policy, dpo_loss(log_p[i], log_p[j], base[i], base[j], beta))
        optimizer.step()
    best = (base + good * math.log(3) / beta).softmax(0)
    torch.testing.assert_close(log_p_of_all(policy).exp(), best, rtol=0, atol=1e-5)


def test_the_prompt_cancels_in_dpo():
    """log p of the prompt, counted or not, is the same in the better and the worse text."""
    c, r, bc, br, prompt, base_prompt = torch.randn(
        6, 4, generator=torch.Generator().manual_seed(0)
    )
    alone = dpo_loss(c, r, bc, br, 0.2)
    counted = dpo_loss(c + prompt, r + prompt, bc + base_prompt, br + base_prompt, 0.2)
    torch.testing.assert_close(alone, counted)


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rewards", "size", "said"),
    [
        ([1.0, 1.0, 1.0, 1.0], 2, "all rewards of each group are equal, in the first one 1"),
        ([0.0, 0.0, 1.0, 1.0], 2, "all rewards of each group are equal, in the first one 0"),
        ([1.0, math.nan], 2, r"values\[1\] is nan"),
        ([math.inf, 1.0], 2, r"values\[0\] is inf"),
        ([1.0, 2.0, 3.0], 2, r"rewards \(3,\) aren't whole groups of 2"),
        ([1.0, 2.0], 1, "aren't whole groups of 1, 2 or more each"),
        ([1.0, 2.0], 0, "aren't whole groups of 0"),
        ([], 2, r"rewards \(0,\)"),
        ([[1.0, 2.0]], 2, r"rewards \(1, 2\)"),
    ],
)
def test_rewards_that_teach_nothing_are_refused_in_a_sentence(rewards, size, said):
    with pytest.raises(LessonsError, match=said):
        group_advantages(torch.tensor(rewards), size)


def test_other_bad_input_is_refused_in_a_sentence():
    two, nothing = torch.zeros(2), torch.zeros(0)
    for loss in (
        lambda: policy_gradient_loss(two, torch.zeros(3)),
        lambda: policy_gradient_loss(torch.zeros(2, 2), torch.zeros(2, 2)),
        lambda: policy_gradient_loss(nothing, nothing),
        lambda: policy_gradient_loss(two[0], two[0]),
        lambda: dpo_loss(two, two, two, torch.zeros(3), 0.1),
    ):
        with pytest.raises(LessonsError, match="each must be the same"):
            loss()
    with pytest.raises(LessonsError, match=r"values\[1\] is nan"):
        policy_gradient_loss(two, torch.tensor([0.0, math.nan]))
    for beta in (0, -1.0, math.nan, math.inf):
        with pytest.raises(LessonsError, match="not a positive number"):
            dpo_loss(two, two, two, two, beta)


# ---- undefined_names -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "undefined"),
    [
        ("x = len(y)", {"y"}),
        ("def f(a, *b, c=1, **d):\n    return a, b, c, d, e", {"e"}),
        ("import os.path as p, sys\nfrom re import sub\np, sys, sub, os", {"os"}),
        ("import os.path\nos, path", {"path"}),
        ("try:\n    1\nexcept E as e:\n    e", {"E"}),
        ("[i for i in j if (k := i)]\nk", {"j"}),
        ("class A(B):\n    pass\nA", {"B"}),
        ("async def f():\n    pass\nlambda z: f(z, w)", {"w"}),
        ("with a as b:\n    b.c.d = b", {"a"}),
        ("x: T = 1", {"T"}),
        ("del q", set()),
        ("", set()),
    ],
)
def test_undefined_names(code, undefined):
    assert undefined_names(code) == undefined


@pytest.mark.parametrize("module", [textwrap, shlex, fnmatch])
def test_code_that_runs_has_no_undefined_names(module):
    """A module that is in use defines what it uses, but for what Python gives to every module."""
    code = Path(module.__file__).read_text(encoding="utf-8")
    assert undefined_names(code) <= {"__name__"}
