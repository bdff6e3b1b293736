"""AdamW and Muon, step by step against PyTorch's, and which parameter goes to which."""

import copy
import math

import pytest
import torch
from torch import nn

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.optimizer import (
    AdamW,
    Muon,
    adamw_update,
    make_optimizers,
    newton_schulz,
    parameter_groups,
)

SHAPES = [(7, 3), (3, 7), (5,), (4, 4), (1, 6)]


def make_parameters(shapes=SHAPES, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in shapes]


def step_with(optimizer, parameters, step, size=1.0):
    """One step with gradients that depend on nothing but the number of the step."""
    generator = torch.Generator().manual_seed(step)
    for parameter in parameters:
        gradient = torch.randn(parameter.shape, generator=generator) * size * 10 ** (step % 3 - 1)
        parameter.grad = gradient.to(parameter.dtype)
    optimizer.step()


def assert_equal(ours, theirs):
    for our, their in zip(ours, theirs, strict=True):
        assert torch.equal(our, their)


ADAMW = [
    {"lr": 1e-2, "weight_decay": 0.0},
    {"lr": 3e-3, "weight_decay": 0.3, "betas": (0.8, 0.95), "eps": 1e-3},
    {"lr": 1.0, "weight_decay": 0.1, "betas": (0.0, 0.5)},
]


@pytest.mark.parametrize("settings", ADAMW)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adamw_equals_pytorchs_bit_for_bit(settings, dtype):  # SPEC A6 E10
    ours, theirs = make_parameters(dtype=dtype), make_parameters(dtype=dtype)
    our_optimizer = AdamW(ours, **settings)
    their_optimizer = torch.optim.AdamW(theirs, **settings)
    for step in range(30):
        step_with(our_optimizer, ours, step)
        step_with(their_optimizer, theirs, step)
        assert_equal(ours, theirs)
    assert not torch.equal(ours[0], make_parameters(dtype=dtype)[0])


@pytest.mark.parametrize("settings", ADAMW)
def test_adamw_equals_pytorchs_fused_one(settings):  # SPEC A6
    """The fused kernel multiplies and adds in another order: float64 shows that no more differs."""
    ours, theirs = make_parameters(dtype=torch.float64), make_parameters(dtype=torch.float64)
    our_optimizer = AdamW(ours, **settings)
    their_optimizer = torch.optim.AdamW(theirs, fused=True, **settings)
    for step in range(30):
        step_with(our_optimizer, ours, step)
        step_with(their_optimizer, theirs, step)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-10, atol=1e-10)


def test_adamw_by_hand():  # SPEC A6
    """Two steps in plain arithmetic; eps is large, so that its place outside the root shows."""
    weight, mean, square = torch.tensor([2.0]).double(), torch.zeros(1), torch.zeros(1)
    mean, square, value = mean.double(), square.double(), 2.0
    m = v = 0.0
    for step, gradient in ((1, 3.0), (2, -1.0)):
        settings = {"betas": (0.9, 0.99), "eps": 0.5, "weight_decay": 0.2}
        one = torch.tensor([gradient]).double()
        adamw_update(weight, one, mean, square, step, lr=0.1, **settings)
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient**2
        corrected = (m / (1 - 0.9**step)) / (math.sqrt(v / (1 - 0.99**step)) + 0.5)
        value = value * (1 - 0.1 * 0.2) - 0.1 * corrected
        assert weight.item() == pytest.approx(value, rel=1e-12)


def test_without_a_gradient_nothing_moves():
    parameters = make_parameters()
    adamw, muon = AdamW(parameters[:1], weight_decay=0.5), Muon(parameters[1:2])
    adamw.step()
    muon.step()
    assert_equal(parameters, make_parameters())
    assert not adamw.state
    assert not muon.state


MATRICES = [(9, 4), (4, 9), (6, 6), (1, 5), (5, 1)]


@pytest.mark.parametrize("shape", MATRICES)
@pytest.mark.parametrize("settings", [{}, {"lr": 0.02, "momentum": 0.7, "weight_decay": 0.0}])
def test_muon_equals_pytorchs_bit_for_bit(shape, settings):  # SPEC A6 E10
    ours, theirs = make_parameters([shape]), make_parameters([shape])
    our_optimizer = Muon(ours, **settings)
    their_optimizer = torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **settings)
    for step in range(20):
        step_with(our_optimizer, ours, step)
        step_with(their_optimizer, theirs, step)
        assert_equal(ours, theirs)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (8, 8)])
def test_orthogonalizing_keeps_directions_and_evens_out_sizes(shape):
    torch.manual_seed(3)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    sizes = torch.logspace(-1, 1, min(shape))
    result = newton_schulz(u @ sizes.diag() @ v).float()
    turned = u.T @ result @ v.T  # in the directions of the matrix: nothing off the diagonal
    assert ((turned.diag() > 0.65) & (turned.diag() < 1.25)).all()
    assert (turned - turned.diag().diag()).abs().max() < 0.05


def test_sizes_end_in_the_range_that_is_promised():
    """Singular values from 0.002 to 1, all at once; bfloat16 may add a hundredth."""
    sizes = torch.logspace(math.log10(0.002), 0, 400)
    ends = []
    for size in sizes.tolist():  # of [[size, 0], [0, rest]], whose length is 1 already
        matrix = torch.diag(torch.tensor([size, math.sqrt(max(1 - size**2, 0.0))]))
        ends.append(newton_schulz(matrix).float()[0, 0].item())
    assert 0.68 - 0.01 < min(ends) < 0.70
    assert 1.19 < max(ends) < 1.21 + 0.01


@pytest.mark.parametrize(
    ("ours", "theirs", "shapes"),
    [
        (AdamW, torch.optim.AdamW, SHAPES),
        (Muon, lambda p: torch.optim.Muon(p, adjust_lr_fn="match_rms_adamw"), MATRICES),
    ],
)
def test_a_run_goes_on_with_either_ours_or_pytorchs(ours, theirs, shapes):  # SPEC A7
    """After five steps, the state changes hands; five more steps end at the same numbers."""
    makers = {"ours": ours, "theirs": theirs}
    results = {}
    for first in makers:
        for second in makers:
            parameters = make_parameters(shapes)
            optimizer = makers[first](parameters)
            for step in range(5):
                step_with(optimizer, parameters, step)
            groups = makers[second](parameters).state_dict()["param_groups"]
            state = copy.deepcopy(optimizer.state_dict()["state"])
            optimizer = makers[second](parameters)
            optimizer.load_state_dict({"state": state, "param_groups": groups})
            for step in range(5, 10):
                step_with(optimizer, parameters, step)
            results[first, second] = parameters
    for parameters in results.values():
        assert_equal(parameters, results["theirs", "theirs"])


# Which parameter goes where

SMALL = ModelConfig(20, context_length=8, d_model=8, n_layers=2, n_heads=2, d_ff=16)


def make_model(config=SMALL):
    torch.manual_seed(0)
    return Decoder(config)


def names_of(model, parameters):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return sorted(names[id(parameter)] for parameter in parameters)


def test_only_matrices_decay():  # SPEC A6
    model = make_model()
    matrices, vectors = parameter_groups(model.parameters(), weight_decay=0.3)
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    decayed, kept = names_of(model, matrices["params"]), names_of(model, vectors["params"])
    names = [name for name, _ in model.named_parameters()]
    assert kept == sorted(n for n in names if "norm" in n or n.endswith("bias"))
    assert decayed == sorted(set(names) - set(kept))
    assert "embedding.weight" in decayed


@pytest.mark.parametrize("tie_embeddings", [False, True])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("fused", [False, True])
def test_every_parameter_has_one_place(tie_embeddings, optimizer, fused):  # SPEC A6
    config = ModelConfig(**{**SMALL.to_dict(), "tie_embeddings": tie_embeddings})
    model = make_model(config)
    train = TrainConfig(optimizer=optimizer, fused=fused, weight_decay=0.3, beta1=0.8, beta2=0.97)
    optimizers = make_optimizers(model, train)
    groups = [group for one in optimizers for group in one.param_groups]
    placed = [parameter for group in groups for parameter in group["params"]]
    names = sorted(name for name, _ in model.named_parameters())
    assert names_of(model, placed) == names
    for group in groups:
        assert group["lr"] == 0.005
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.3 if parameter.ndim == 2 else 0.0)
    adamw = optimizers[-1]
    assert isinstance(adamw, torch.optim.AdamW if fused else AdamW)
    assert all(group["betas"] == (0.8, 0.97) for group in adamw.param_groups)
    if optimizer == "muon":
        hidden = [n for n in names if n.startswith("blocks.") and model.get_parameter(n).ndim == 2]
        (group,) = optimizers[0].param_groups
        assert names_of(model, group["params"]) == hidden
        assert len(hidden) == 2 * 4


@pytest.mark.parametrize("name", ["sgd", "Adam", ""])
def test_an_unknown_optimizer_is_refused(name):  # SPEC S7
    with pytest.raises(LessonsError, match=f"optimizer = '{name}' is not one of adamw, muon"):
        TrainConfig(optimizer=name)
