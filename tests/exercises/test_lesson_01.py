"""The references of lesson 01 against the package and against numbers worked out by hand."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from transformer_lessons.config import ModelConfig
from transformer_lessons.exercises.exercise import find_exercise
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.attention import attention_weights, causal_mask
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.rope import apply_rope
from transformer_lessons.presets import preset


def reference(name):
    return find_exercise(f"01.{name}").reference


def test_pairs_of_bytes_not_characters():  # SPEC G4
    assert reference("next_byte_pairs")("é!".encode()) == ([0xC3, 0xA9], [0xA9, 0x21])


@pytest.mark.parametrize("n_tokens", [1, 2, 7])
def test_mask_is_the_packages(n_tokens):  # SPEC G4
    assert torch.equal(reference("causal_mask")(n_tokens), causal_mask(n_tokens))


def test_attention_is_the_packages_and_checks_by_hand():  # SPEC G4
    for q, k in find_exercise("01.attention_weights").cases:
        expected = attention_weights(q, k, causal_mask(len(q)))
        torch.testing.assert_close(reference("attention_weights")(q, k), expected)
    first = reference("attention_weights")(*find_exercise("01.attention_weights").cases[0])
    e2 = math.exp(2)  # the one score above 0 is 2 * 2 / sqrt(4) = 2
    torch.testing.assert_close(first, torch.tensor([[1.0, 0], [e2 / (e2 + 1), 1 / (e2 + 1)]]))


@pytest.mark.parametrize("case", find_exercise("01.rotate").cases)
def test_rotation_is_the_packages(case):  # SPEC G4
    x, y, position = case
    turned = apply_rope(torch.tensor([[x, y]], dtype=torch.float64), torch.tensor([position]))
    assert reference("rotate")(x, y, position) == pytest.approx(turned[0].tolist())


def test_loss_is_pytorchs_and_knowing_nothing_costs_ln_256():  # SPEC G4
    for logits, targets in find_exercise("01.next_byte_loss").cases:
        expected = cross_entropy(logits, targets)
        torch.testing.assert_close(reference("next_byte_loss")(logits, targets), expected)
    nothing = reference("next_byte_loss")(torch.zeros(3, 256), torch.tensor([97, 98, 97]))
    assert nothing.item() == pytest.approx(math.log(256))


def test_temperature_scales_the_log_odds():  # SPEC G4
    p = reference("temperature")(torch.tensor([0.0, 1.0]), 0.5)
    assert math.log(p[1] / p[0]) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "config",
    [preset("fluctlight"), ModelConfig(3, 4, d_model=4, n_layers=3, n_heads=1, d_ff=5)],
)
def test_count_is_that_of_the_real_model(config):  # SPEC G4
    sizes = (config.vocab_size, config.d_model, config.n_layers, config.d_ff)
    assert reference("count_parameters")(*sizes) == count_parameters(Decoder(config))


def test_fluctlight_has_2656_parameters():  # SPEC G4
    assert reference("count_parameters")(256, 4, 2, 8) == 2656
