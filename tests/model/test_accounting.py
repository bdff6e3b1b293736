"""Counting parameters: the published number, where it comes from, and shared tensors once."""

import pytest
from torch import nn

from transformer_lessons.config import ModelConfig, preset
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.decoder import Decoder


def test_fluctlight_has_2656_parameters():  # SPEC F1
    assert count_parameters(Decoder(preset("fluctlight"))) == 2_656


def test_where_the_2656_are():  # SPEC F1
    model = Decoder(preset("fluctlight"))
    assert count_parameters(model.embedding) == 256 * 4 == 1024
    for block in model.blocks:
        assert count_parameters(block.attention) == 4 * 12 + 12 + 4 * 4 + 4 == 80
        assert count_parameters(block.feedforward) == 4 * 8 + 8 + 8 * 4 + 4 == 76
        norms = [block.attention_norm, block.feedforward_norm]
        assert [count_parameters(norm) for norm in norms] == [8, 8]
    assert count_parameters(model.final_norm) == 4 + 4
    assert count_parameters(model.head) == 4 * 256 + 256 == 1280
    assert 1024 + 2 * (80 + 76 + 16) + 8 + 1280 == 2_656


@pytest.mark.parametrize(("v", "d", "n", "h", "f"), [(10, 8, 3, 2, 5), (256, 128, 4, 4, 512)])
def test_the_formula_for_any_size(v, d, n, h, f):  # SPEC F1
    config = ModelConfig(v, 16, d_model=d, n_layers=n, n_heads=h, d_ff=f)
    block = (3 * d * d + 3 * d) + (d * d + d) + (d * f + f) + (f * d + d) + 4 * d
    assert count_parameters(Decoder(config)) == v * d + n * block + 2 * d + (d * v + v)


def test_a_shared_tensor_counts_once():  # SPEC E2
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    assert count_parameters(model) == 40 + 36
    model[1].bias = nn.Parameter(model[1].bias.detach().clone())
    tied = nn.ModuleList([nn.Embedding(10, 4), nn.Linear(4, 10)])
    assert count_parameters(tied) == 40 + 50
    tied[1].weight = tied[0].weight
    assert count_parameters(tied) == 50
