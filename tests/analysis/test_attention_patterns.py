"""The attention weights that a model reports are the ones it used."""

import math

import pytest
import torch

from transformer_lessons.analysis.attention_patterns import attention_patterns, induction_scores
from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset

CONFIG = ModelConfig(20, context_length=9, d_model=12, n_layers=3, n_heads=2, d_ff=10)


def patterns_by_hand(model, tokens):
    """Weights (n_layers, B, H, T, T) by einsum, with RoPE as complex numbers."""
    n_texts, n_tokens = tokens.shape
    d = model.config.heads.head_dim
    rates = torch.tensor([10_000.0 ** (-2 * j / d) for j in range(d // 2)])
    phases = torch.exp(1j * torch.arange(n_tokens)[:, None] * rates).to(torch.complex128)
    inputs = []
    hooks = [
        block.register_forward_hook(lambda module, args, output: inputs.append(args[0]))
        for block in model.blocks
    ]
    model(tokens)
    for hook in hooks:
        hook.remove()
    layers = []
    for block, x in zip(model.blocks, inputs, strict=True):
        rows = block.attention.qkv(block.attention_norm(x))
        heads = rows.view(n_texts, n_tokens, 3, model.config.n_heads, 2, d // 2)
        q, k = (
            torch.complex(heads[:, :, part, :, 0], heads[:, :, part, :, 1]) * phases[:, None]
            for part in (0, 1)
        )
        scores = torch.einsum("bthj,bshj->bhts", q, k.conj()).real / math.sqrt(d)
        powers = scores.exp().tril()
        layers.append(powers / powers.sum(-1, keepdim=True))
    return torch.stack(layers)


def test_they_equal_weights_computed_by_hand(random_model):  # SPEC E14
    model = random_model(CONFIG, size=0.4)
    tokens = torch.randint(20, (2, 9), generator=torch.Generator().manual_seed(0))
    patterns = attention_patterns(model, tokens)
    assert patterns.shape == (3, 2, 2, 9, 9)
    # The model's own angles are float32.
    torch.testing.assert_close(patterns, patterns_by_hand(model, tokens), rtol=0, atol=1e-5)


def test_rows_are_shares_of_the_past(random_model):
    patterns = attention_patterns(random_model(CONFIG), torch.arange(9)[None])
    torch.testing.assert_close(patterns.sum(-1), torch.ones(3, 1, 2, 9).double())
    assert patterns.triu(1).count_nonzero() == 0
    assert bool((patterns[..., 0, 0] == 1).all())  # the first token sees itself only


def test_looking_changes_nothing(random_model):
    model = random_model(CONFIG).train()
    attention_patterns(model, torch.arange(9)[None])
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_context_is_enforced():  # SPEC F5
    with pytest.raises(LessonsError, match="17 tokens, but this model looks at 1 to 16"):
        attention_patterns(Decoder(preset("fluctlight")), torch.zeros(1, 17, dtype=torch.long))


# ---- Induction -----------------------------------------------------------------------------------


def exact_pattern(n_tokens, target):
    """A head whose token t looks at token target(t) only, or at the first one."""
    pattern = torch.zeros(n_tokens, n_tokens)
    for t in range(n_tokens):
        pattern[t, target(t) if target(t) >= 0 else 0] = 1.0
    return pattern


@pytest.mark.parametrize("n_copies", [2, 3])
def test_the_score_tells_induction_from_its_neighbours(n_copies):
    period = 5
    heads = [
        exact_pattern(period * n_copies, lambda t: t - period + 1),  # induction
        exact_pattern(period * n_copies, lambda t: t - period),  # the same token
        exact_pattern(period * n_copies, lambda t: t - 1),  # the token before
        torch.full((period * n_copies,) * 2, 0.25),
    ]
    patterns = torch.stack(heads)[None, None].expand(2, 3, -1, -1, -1)
    assert induction_scores(patterns, period).tolist() == [[1.0, 0.0, 0.0, 0.25]] * 2


def test_the_first_copy_does_not_count():
    pattern = exact_pattern(8, lambda t: t - 3)  # period 4
    pattern[:4] = 0
    assert induction_scores(pattern[None, None, None], 4).item() == 1.0


@pytest.mark.parametrize(
    ("shape", "period"), [((1, 1, 1, 3, 8), 4), ((1, 1, 8, 8), 4), ((1, 1, 1, 8, 8), 8)]
)
def test_patterns_without_a_second_copy(shape, period):  # SPEC F5
    with pytest.raises(LessonsError, match=f"hold no second copy of {period} tokens"):
        induction_scores(torch.zeros(shape), period)
