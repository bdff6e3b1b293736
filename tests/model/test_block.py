"""A block adds to what passes through it; dropout depends on the model's size."""

import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.attention import causal_mask
from transformer_lessons.model.block import Block
from transformer_lessons.model.rope import rope_table


def silent_block(d_model, dropout=0.5):
    """A block that adds nothing: the layers that write to x have zero weights and biases."""
    config = ModelConfig(10, 8, d_model, n_layers=1, n_heads=1, d_ff=4, dropout=dropout)
    block = Block(config)
    for layer in (block.attention.out, block.feedforward.down):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return block


def run(block, x):
    head_dim = x.shape[-1]
    return block(x, causal_mask(x.shape[1]), rope_table(torch.arange(x.shape[1]), head_dim))


def test_a_block_that_has_nothing_to_add_changes_nothing():
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(run(silent_block(32).train(), x), x)


@pytest.mark.parametrize("branch", ["attention.out", "feedforward.down"])
@pytest.mark.parametrize(("d_model", "share"), [(4, 0.0), (18, 0.25), (32, 0.5), (64, 0.5)])
def test_the_share_that_is_dropped_depends_on_the_size(branch, d_model, share):  # SPEC F4
    block = silent_block(d_model, dropout=0.5).train()
    torch.nn.init.ones_(block.get_submodule(branch).bias)
    torch.manual_seed(0)
    added = run(block, torch.zeros(500, 8, d_model))
    dropped = (added == 0).double().mean().item()
    assert dropped == pytest.approx(share, abs=0.02)
    kept = added[added != 0]  # enlarged, so that the sum stays the same on average
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - share)))
    assert (run(block.eval(), torch.zeros(1, 8, d_model)) == 1).all()


@pytest.mark.parametrize(("d_model", "dropout"), [(4, 0.9), (32, 0.0)])
def test_without_dropout_training_draws_no_random_numbers(d_model, dropout):  # SPEC F4
    before = torch.random.get_rng_state()
    block = silent_block(d_model, dropout).train()
    torch.random.set_rng_state(before)
    run(block, torch.zeros(1, 8, d_model))
    assert torch.equal(torch.random.get_rng_state(), before)
