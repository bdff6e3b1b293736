"""The plan's arithmetic, worked out by hand."""

import pytest

from transformer_lessons.training.parallel_plan import plan_ranks


@pytest.mark.parametrize(("n_ranks", "held", "sent"), [(8, 14e9, 73.5e9), (64, 1.75e9, 82.6875e9)])
def test_a_model_of_7_billion_in_shares(n_ranks, held, sent):
    plan = plan_ranks(7e9, n_ranks, shard=True, tokens=4e6)
    assert (plan.held, plan.sent) == (held, sent)
    assert plan.compute == pytest.approx(6 * 7e9 * 4e6 / n_ranks / 4e14)
    assert plan.exchange == pytest.approx(sent / 5e10)


def test_without_shares_every_rank_holds_all_and_sends_two_thirds_as_much():
    whole, shares = (plan_ranks(7e9, 512, shard, tokens=4e6) for shard in (False, True))
    assert whole.held == 112e9 == shares.held * 512
    assert whole.sent * 3 == pytest.approx(shares.sent * 2)


def test_a_rank_alone_sends_nothing():
    plan = plan_ranks(1000, 1, shard=True, tokens=10)
    assert (plan.held, plan.sent, plan.exchange) == (16_000, 0, 0)
    assert plan.shortest == plan.longest == plan.compute


def test_a_step_takes_what_lasts_longest_or_both():
    plan = plan_ranks(1e6, 2, shard=False, tokens=100, flops=1e9, bandwidth=1e6, exchanged=2)
    assert (plan.compute, plan.exchange) == (pytest.approx(0.3), pytest.approx(2.0))
    assert (plan.shortest, plan.longest) == (pytest.approx(2.0), pytest.approx(2.3))
