"""What several test files share."""

import os

import pytest
import torch
from hypothesis import settings

from transformer_lessons.model.decoder import Decoder
from transformer_lessons.support.assets import fetch, find_cached

# The same examples on every machine, and no deadline: a busy machine is no failure. `make faults`
# tries far more of them; a test that sets its own number of examples keeps it.
FULL = os.environ.get("FAULTS") == "full"
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, max_examples=10_000 if FULL else 60
)
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


@pytest.fixture(scope="session")
def smollm2():
    """The file of SmolLM2-135M; where there is none, tests are skipped, but not so in CI."""
    name = "smollm2-135m"
    found = find_cached(name)
    if found is None and not os.environ.get("CI"):
        pytest.skip(f"{name} is not in the cache: python -m transformer_lessons download {name}")
    return found or fetch(name)
