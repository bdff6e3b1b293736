"""What several test files share."""

import pytest
import torch
from hypothesis import settings

from transformer_lessons.model.decoder import Decoder

# The same examples on every machine, and no deadline: a busy machine is no failure.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def random_model():
    """Makes a float64 decoder in which every number, norms and biases too, is random and large.

    The small numbers a model starts from would hide most mistakes: attention is almost uniform.
    """

    def make(config, seed=0, size=0.6):
        generator = torch.Generator().manual_seed(seed)
        model = Decoder(config).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(noise * size)
        return model

    return make
