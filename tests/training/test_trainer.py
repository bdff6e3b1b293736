"""The training loop against one written out by hand, and what it does with a loss gone wrong."""

import math
from itertools import repeat

import pytest
import torch
from torch import nn

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.text.batches import IGNORE, random_windows
from transformer_lessons.text.pairs import pair_batches
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import evaluate
from transformer_lessons.training.loss import cross_entropy
from transformer_lessons.training.trainer import Trainer, parameter_groups, train_step

SMALL = ModelConfig(20, context_length=8, d_model=8, n_layers=2, n_heads=2, d_ff=16)


def make_model(config=SMALL, seed=0):
    torch.manual_seed(seed)
    return Decoder(config)


def make_batches(vocab_size=20, context_length=8, seed=0):
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(vocab_size, (300,), generator=generator)
    return random_windows(tokens, context_length, batch_size=4, seed=seed)


def copies(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(model, tensors):
    return all(torch.equal(model.state_dict()[name], tensors[name]) for name in tensors)


def train_by_hand(model, config, batches):
    """AdamW with decay on matrices, warm-up and cosine, clipping: PyTorch, written out."""
    decayed = [p for name, p in model.named_parameters() if p.dim() == 2]
    others = [p for name, p in model.named_parameters() if p.dim() == 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, weight_decay=config.weight_decay)
    losses = []
    for step in range(config.steps):
        done = (step - config.warmup_steps) / (config.steps - config.warmup_steps - 1)
        rate = config.learning_rate * (step + 1) / config.warmup_steps
        if step >= config.warmup_steps:
            low, high = config.min_learning_rate, config.learning_rate
            rate = low + (high - low) * (1 + math.cos(math.pi * done)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs, targets = next(batches)
        loss = cross_entropy(model(inputs), targets)
        for parameter in model.parameters():
            parameter.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_equals_a_loop_written_by_hand_bit_for_bit():
    config = TrainConfig(steps=12, warmup_steps=3, weight_decay=0.3, clip_norm=0.05)
    ours, theirs = make_model(), make_model()
    reports = Trainer(ours, config, make_batches()).fit()
    losses = train_by_hand(theirs.train(), config, make_batches())
    assert [report.loss for report in reports] == losses
    assert same(ours, theirs.state_dict())
    assert not same(ours, make_model().state_dict())


def test_the_same_seed_gives_the_same_parameters():
    models = []
    for data_seed in (0, 0, 1):
        models.append(make_model())
        Trainer(models[-1], TrainConfig(steps=4), make_batches(seed=data_seed)).fit()
    assert same(models[0], models[1].state_dict())
    assert not same(models[0], models[2].state_dict())


def test_reports_say_what_happened():
    config = TrainConfig(steps=5, learning_rate=0.01, min_learning_rate=0.0, clip_norm=0.01)
    pairs = [(b"\x01\x02", b"\x03"), (b"\x01", b"\x02\x03")]  # 1 and 2 real targets
    seen = []
    batches = pair_batches(pairs, context_length=8, batch_size=2)
    reports = Trainer(make_model(), config, batches, on_step=seen.append).fit()
    assert seen == reports
    assert [report.step for report in reports] == [1, 2, 3, 4, 5]
    assert [report.n_targets for report in reports] == [3] * 5
    expected = [0.005 * (1 + math.cos(math.pi * step / 4)) for step in range(5)]
    assert [report.learning_rate for report in reports] == pytest.approx(expected)
    assert all(report.grad_norm > 0.01 for report in reports)  # measured before clipping
    assert reports[0].loss == pytest.approx(math.log(20), abs=0.05)


def gradients_by_hand(model, inputs, targets):
    parameters = list(model.parameters())
    loss = cross_entropy(model(inputs), targets)
    return parameters, torch.autograd.grad(loss, parameters)


@pytest.mark.parametrize("clip_norm", [1e-3, 0.1, 1e3])
def test_clipping_by_hand(clip_norm):
    model = make_model().double()
    inputs, targets = next(make_batches())
    before, gradients = gradients_by_hand(model, inputs, targets)
    before = [parameter.detach().clone() for parameter in before]
    length = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
    assert 0.1 < length < 1e3  # so that the cases above differ
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    _, grad_norm = train_step(model, optimizer, inputs, targets, clip_norm)
    assert grad_norm == pytest.approx(length, rel=1e-12)
    shrink = min(1.0, clip_norm / length)
    for old, new, gradient in zip(before, model.parameters(), gradients, strict=True):
        torch.testing.assert_close(old - new, shrink * gradient, rtol=1e-4, atol=1e-12)


def test_old_gradients_are_not_added():
    model, batch = make_model(), next(make_batches())
    _, gradients = gradients_by_hand(model, *batch)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    train_step(model, torch.optim.SGD(model.parameters(), lr=0.0), *batch, clip_norm=1e9)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_only_matrices_decay():  # SPEC A6
    model = make_model()
    matrices, vectors = parameter_groups(model, weight_decay=0.3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    decayed = {names[id(parameter)] for parameter in matrices["params"]}
    kept = {names[id(parameter)] for parameter in vectors["params"]}
    assert kept == {name for name in names.values() if "norm" in name or name.endswith("bias")}
    assert decayed == set(names.values()) - kept
    assert "embedding.weight" in decayed


def test_decay_shrinks_by_rate_times_decay():  # SPEC A6
    results = []
    for weight_decay in (0.0, 0.5):
        model = make_model().double()
        config = TrainConfig(steps=1, learning_rate=0.01, weight_decay=weight_decay)
        Trainer(model, config, make_batches()).fit()
        results.append(dict(model.named_parameters()))
    start = dict(make_model().double().named_parameters())
    for name, first in start.items():
        shrunk = 0.01 * 0.5 * first if first.ndim == 2 else torch.zeros_like(first)
        expected = results[0][name] - shrunk
        torch.testing.assert_close(results[1][name], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_it_does_harm(poison):
    model = make_model()
    states = []

    def poison_after_step_2(report):
        if report.step == 2:
            model.head.bias.data[3] = poison
        states.append(copies(model))

    trainer = Trainer(model, TrainConfig(steps=5), make_batches(), poison_after_step_2)
    with pytest.raises(LessonsError, match=r"^the loss is (nan|inf) \(step 3\)\. Lower the "):
        trainer.fit()
    assert len(states) == 2
    last = {name: tensor.nan_to_num(7.0) for name, tensor in states[-1].items()}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.nan_to_num(7.0), last[name]), name


def test_fit_trains_in_training_mode():
    model = make_model().eval()
    modes = []
    model.register_forward_hook(lambda module, args, output: modes.append(module.training))
    Trainer(model, TrainConfig(steps=2), make_batches()).fit()
    assert modes == [True, True]


def test_padding_is_not_learned():  # SPEC F7
    # The same two pairs, alone and padded to the length of a longer one that has no real target.
    batch = next(pair_batches([(b"\x01\x02", b"\x03")], context_length=8, batch_size=1))
    padded = [
        torch.cat([batch[0], torch.full((1, 5), 9)], dim=1),
        torch.cat([batch[1], torch.full((1, 5), IGNORE)], dim=1),
    ]
    models = []
    for inputs, targets in (batch, padded):
        models.append(make_model().double())
        batches = repeat((inputs, targets))
        Trainer(models[-1], TrainConfig(steps=3), batches).fit()
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("context_length", [2, 16])
def test_fluctlight_learns_ababab(context_length):  # SPEC F5, F12
    config = ModelConfig(**{**preset("fluctlight").to_dict(), "context_length": context_length})
    tokens = torch.tensor(list(b"ab" * 200))
    batches = random_windows(tokens, context_length, batch_size=16)
    model = make_model(config)
    train_config = TrainConfig(steps=200, learning_rate=0.03, min_learning_rate=0.003)
    reports = Trainer(model, train_config, batches).fit()
    assert reports[0].loss > 5.5
    held_out = next(random_windows(tokens, context_length, batch_size=4, seed=1))
    assert evaluate(model, [held_out]).loss < 0.05
    window = torch.tensor([list(b"ba" * 8)[:context_length]])
    assert model(window).argmax(-1).tolist() == [list(b"ab" * 8)[:context_length]]
