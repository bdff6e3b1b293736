"""What a model knows before it has learned: nothing."""

import math
from dataclasses import replace

import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import PRESETS, preset
from transformer_lessons.training.loss import cross_entropy

# After the final norm a token is D numbers of size 1 and a row of the head D numbers of size 0.02,
# so logits have the size s = 0.02 sqrt(D) and cost s²/2 = 0.0002 D more than even ones.
FIRST_LOSS = {
    "fluctlight": 0.01,
    "bytes-1m": 0.05,
    "python-small": 0.1,
    "llama": 0.1,
    "gpt": 0.2,
    "gpt2": 0.4,
    "smollm2-135m": 0.2,
    "llama3.2-1b": 0.7,
}


@pytest.mark.parametrize(("name", "bound"), FIRST_LOSS.items())
def test_the_first_loss_is_near_ln_v(name, bound):  # SPEC F1, E2
    torch.manual_seed(0)
    # Neither the depth nor the size of the vocabulary is in the bound, and both take long to make.
    config = preset(name)
    config = replace(config, n_layers=1, vocab_size=min(config.vocab_size, 8192))
    model = Decoder(config).eval()
    tokens = torch.randint(config.vocab_size, (8, min(config.context_length, 32) + 1))
    with torch.inference_mode():
        loss = cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]).item()
    assert loss == pytest.approx(math.log(config.vocab_size), abs=bound)


def test_every_preset_is_tested():
    assert set(FIRST_LOSS) == set(PRESETS)


def test_weights_are_small_and_biases_zero():
    torch.manual_seed(0)
    for name, tensor in Decoder(preset("bytes-1m")).named_parameters():
        if "norm" in name:
            assert bool((tensor == (1 if name.endswith("weight") else 0)).all()), name
        elif name.endswith("bias"):
            assert tensor.count_nonzero() == 0, name
        else:
            # 4 layers add 8 times; their matrices start 1 / sqrt(8) as large.
            adds = "attention.out" in name or "feedforward.down" in name
            expected = 0.02 / math.sqrt(8) if adds else 0.02
            assert tensor.std().item() == pytest.approx(expected, rel=0.03), name
            assert tensor.mean().item() == pytest.approx(0, abs=5e-4), name


def test_the_seed_decides():
    def made_with(seed):
        torch.manual_seed(seed)
        return Decoder(preset("fluctlight")).embedding.weight

    assert torch.equal(made_with(1), made_with(1))
    assert not torch.equal(made_with(1), made_with(2))


@pytest.mark.parametrize("n_layers", [2, 32])
def test_the_residual_stream_stays_the_same_size_however_deep(n_layers):
    """2 * n_layers additions of variance 1 / (2 * n_layers) each: their sum keeps its size."""
    torch.manual_seed(0)
    config = ModelConfig(256, 32, d_model=128, n_layers=n_layers, n_heads=4, d_ff=512)
    stream = []
    model = Decoder(config).eval()
    model.final_norm.register_forward_pre_hook(lambda module, args: stream.append(args[0]))
    model(torch.randint(256, (4, 32)))
    assert stream[0].std().item() == pytest.approx(0.055, abs=0.012)
