"""The Decoder that lesson 11 builds on the tape, taken from its cells, against the real one."""

import json
import math
from pathlib import Path

import pytest
import torch

from transformer_lessons.autograd.tape import Node, checkpoint, gradient_error
from transformer_lessons.config import ModelConfig
from transformer_lessons.model.decoder import Decoder, attention_inputs
from transformer_lessons.presets import preset
from transformer_lessons.training.loss import cross_entropy
from transformer_lessons.training.optimizer import adamw_update

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "11_autograd.ipynb"
SMALL_LLAMA = ModelConfig(
    64,
    16,
    d_model=16,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    d_ff=24,
    norm="rms",
    ffn="swiglu",
    bias=False,
    head_bias=False,
    tie_embeddings=True,
)
CONFIGS = {
    "fluctlight": preset("fluctlight"),
    "small llama": SMALL_LLAMA,
    "layer norm and gelu": ModelConfig(
        40, 16, d_model=8, n_layers=2, n_heads=2, d_ff=12, ffn="gelu", sliding_window=3
    ),
    "half-faded norms": ModelConfig(
        40, 16, d_model=16, n_layers=1, n_heads=2, d_ff=12, adaptive_norm=True
    ),
}
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@pytest.fixture(scope="module")
def tape_decoder():
    """The function `tape_decoder` as the cells of the lesson define it."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    sources = [
        "".join(cell["source"])
        for cell in cells
        if "tape-decoder" in cell["metadata"].get("tags", [])
    ]
    names = {"math": math, "torch": torch, "attention_inputs": attention_inputs}
    for source in sources:
        exec(source, names)
    return names["tape_decoder"]


def some_tokens(config):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(config.vocab_size, (2, 3, 12), generator=generator).unbind()


def nodes_of(model):
    return {name: Node(parameter) for name, parameter in model.named_parameters()}


@each_config
@pytest.mark.parametrize("run", [lambda block, x: block(x), checkpoint], ids=["keep", "recompute"])
def test_one_step_is_pytorchs(tape_decoder, random_model, config, run):
    model = random_model(config)
    inputs, targets = some_tokens(config)
    expected = cross_entropy(model(inputs), targets)
    expected.backward()
    weights = nodes_of(model)
    loss = tape_decoder(weights, config, inputs, run).cross_entropy(targets)
    loss.backward()
    torch.testing.assert_close(loss.data, expected.detach(), rtol=0, atol=1e-10)
    assert weights.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(weights[name].grad, parameter.grad, rtol=0, atol=1e-10)
    assert weights["blocks.0.attention.qkv.weight"].grad.abs().max() > 1e-3


def test_a_step_of_a_tiny_decoder_passes_the_check(tape_decoder, random_model):
    config = ModelConfig(5, 4, d_model=4, n_layers=1, n_heads=2, d_ff=4, ffn="gelu")
    model = random_model(config)
    weights = nodes_of(model)
    inputs, targets = torch.tensor([[0, 3, 1, 3]]), torch.tensor([[3, 1, 3, 4]])

    def loss():
        return tape_decoder(weights, config, inputs).cross_entropy(targets)

    assert gradient_error(loss, *weights.values()) < 1e-8  # a long chain: the nudge's own error


@pytest.mark.parametrize("name", ["fluctlight", "small llama"])
def test_ten_steps_are_pytorchs(tape_decoder, name):
    config = CONFIGS[name]
    inputs, targets = some_tokens(config)
    losses = {}

    def fresh():
        torch.manual_seed(0)
        return Decoder(config).double()

    model = fresh()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    losses["torch"] = []
    for _ in range(10):
        loss = cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses["torch"].append(loss.item())

    weights, losses["tape"] = nodes_of(fresh()), []
    averages = {key: (node.data * 0, node.data * 0) for key, node in weights.items()}
    for step in range(1, 11):
        loss = tape_decoder(weights, config, inputs).cross_entropy(targets)
        for node in weights.values():
            node.grad = None
        loss.backward()
        for key, node in weights.items():
            adamw_update(node.data, node.grad, *averages[key], step, lr=0.01, weight_decay=0.1)
        losses["tape"].append(loss.data.item())
    assert losses["tape"] == pytest.approx(losses["torch"], rel=1e-10)
    assert losses["tape"][-1] < losses["tape"][0] - 0.05
