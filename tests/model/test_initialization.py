"""What a model knows before it has learned: nothing."""

import math

import pytest
import torch

from transformer_lessons.config import preset
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.training.loss import cross_entropy


@pytest.mark.parametrize(("name", "bound"), [("fluctlight", 0.01), ("bytes-1m", 0.05)])
def test_the_first_loss_is_ln_256(name, bound):  # SPEC F1
    torch.manual_seed(0)
    config = preset(name)
    model = Decoder(config).eval()
    tokens = torch.randint(256, (32, config.context_length + 1))
    loss = cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]).item()
    assert loss == pytest.approx(math.log(256), abs=bound)


def test_weights_are_small_and_biases_zero():
    torch.manual_seed(0)
    for name, tensor in Decoder(preset("bytes-1m")).named_parameters():
        if "norm" in name:
            assert bool((tensor == (1 if name.endswith("weight") else 0)).all()), name
        elif name.endswith("bias"):
            assert tensor.count_nonzero() == 0, name
        else:
            assert tensor.std().item() == pytest.approx(0.02, rel=0.03), name
            assert tensor.mean().item() == pytest.approx(0, abs=5e-4), name


def test_the_seed_decides():
    def made_with(seed):
        torch.manual_seed(seed)
        return Decoder(preset("fluctlight")).embedding.weight

    assert torch.equal(made_with(1), made_with(1))
    assert not torch.equal(made_with(1), made_with(2))
