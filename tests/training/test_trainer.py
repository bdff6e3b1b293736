"""The training loop against one written out by hand, and what it does with a loss gone wrong."""

import math
import warnings
from itertools import islice, repeat

import pytest
import torch
from torch import nn

from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import IGNORE, random_windows
from transformer_lessons.data.pairs import pair_batches
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import Evaluation, evaluate
from transformer_lessons.training.loss import cross_entropy
from transformer_lessons.training.trainer import Trainer, accumulate_gradients, batch_loss

SMALL = ModelConfig(20, context_length=8, d_model=8, n_layers=2, n_heads=2, d_ff=16)


def make_model(config=SMALL, seed=0):
    torch.manual_seed(seed)
    return Decoder(config)


def make_batches(vocab_size=20, context_length=8, seed=0):
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(vocab_size, (300,), generator=generator)
    return random_windows(tokens, context_length, batch_size=4, seed=seed)


def uneven_batches(n):
    """Batches (4, 8) in which from 1 to 32 targets are real."""
    generator = torch.Generator().manual_seed(3)
    for index in range(n):
        inputs, targets = torch.randint(20, (2, 4, 8), generator=generator)
        n_real = (1, 32, 5, 17, 2, 30)[index % 6]
        targets.view(-1)[n_real:] = IGNORE
        yield inputs, targets


def copies(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(model, tensors):
    return all(torch.equal(model.state_dict()[name], tensors[name]) for name in tensors)


def train_by_hand(model, config, batches):
    """PyTorch's AdamW with decay on matrices, warm-up and cosine, clipping, written out."""
    decayed = [p for name, p in model.named_parameters() if p.dim() == 2]
    others = [p for name, p in model.named_parameters() if p.dim() == 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, weight_decay=config.weight_decay)
    losses = []
    for step in range(config.steps):
        done = (step - config.warmup_steps) / (config.steps - config.warmup_steps - 1)
        rate = config.learning_rate * (step + 1) / (config.warmup_steps + 1)
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
        nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_equals_a_loop_written_by_hand_bit_for_bit():  # SPEC E10 S5
    config = TrainConfig(steps=12, warmup_steps=3, weight_decay=0.3, max_grad_norm=0.05)
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
    config = TrainConfig(steps=5, learning_rate=0.01, min_learning_rate=0.0, max_grad_norm=0.01)
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


# One update: accumulation, clipping, decay


def use_sgd(trainer, learning_rate=1.0):
    """Steps that are the gradient itself, so that they show what it is, and no more.

    The schedule of the trainer sets the rate: it must be constant at `learning_rate`.
    """
    trainer.optimizers = [torch.optim.SGD(trainer.model.parameters(), lr=learning_rate)]
    return trainer


def sgd_config(**choices):
    fixed = {"learning_rate": 1.0, "min_learning_rate": 1.0, "schedule": "constant"}
    return TrainConfig(**{**fixed, "max_grad_norm": 1e9, **choices})


def gradients_by_hand(model, inputs, targets):
    parameters = list(model.parameters())
    loss = cross_entropy(model(inputs), targets)
    return parameters, torch.autograd.grad(loss, parameters)


@pytest.mark.parametrize("max_grad_norm", [1e-3, 0.1, 1e3])
def test_clipping_by_hand(max_grad_norm):
    model = make_model().double()
    inputs, targets = next(make_batches())
    before, gradients = gradients_by_hand(model, inputs, targets)
    before = [parameter.detach().clone() for parameter in before]
    length = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
    assert 0.1 < length < 1e3  # so that the cases above differ
    config = sgd_config(steps=1, max_grad_norm=max_grad_norm)
    (report,) = use_sgd(Trainer(model, config, repeat((inputs, targets)))).fit()
    assert report.grad_norm == pytest.approx(length, rel=1e-12)
    shrink = min(1.0, max_grad_norm / (length + 1e-6))
    for old, new, gradient in zip(before, model.parameters(), gradients, strict=True):
        torch.testing.assert_close(old - new, shrink * gradient, rtol=1e-9, atol=1e-12)


def test_old_gradients_are_not_added():
    model, batch = make_model(), next(make_batches())
    _, gradients = gradients_by_hand(model, *batch)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    use_sgd(Trainer(model, sgd_config(steps=1), repeat(batch))).fit()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("n_batches", [2, 3, 6])
def test_several_batches_are_one_large_batch_also_with_uneven_padding(n_batches):  # SPEC E7 S5
    """Steps that are the gradient: exact up to the rounding of float64."""
    whole = [torch.cat(parts) for parts in zip(*uneven_batches(n_batches), strict=True)]
    models = [make_model().double(), make_model().double()]
    one = use_sgd(Trainer(models[0], sgd_config(steps=4), repeat(whole)))
    parts = [batch for _ in range(4) for batch in uneven_batches(n_batches)]
    config = sgd_config(steps=4, grad_accum_steps=n_batches)
    several = use_sgd(Trainer(models[1], config, parts))
    pairs = list(zip(one.fit(), several.fit(), strict=True))
    for ours, theirs in pairs:
        assert ours.n_targets == theirs.n_targets == int((whole[1] != IGNORE).sum())
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-12)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-12)
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    # The mean of the means, a well-known mistake, would be another loss here.
    losses = [cross_entropy(make_model().double()(x), y).item() for x, y in parts[:n_batches]]
    assert abs(sum(losses) / n_batches - pairs[0][0].loss) > 1e-3


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_accumulation_equals_the_full_batch_with_adamw_too(optimizer):  # SPEC E7 S5
    whole = [torch.cat(parts) for parts in zip(*uneven_batches(6), strict=True)]
    models = [make_model(), make_model()]
    choices = {"steps": 5, "weight_decay": 0.1, "optimizer": optimizer}
    Trainer(models[0], TrainConfig(**choices), repeat(whole)).fit()
    parts = [batch for _ in range(5) for batch in uneven_batches(6)]
    Trainer(models[1], TrainConfig(grad_accum_steps=6, **choices), parts).fit()
    # Muon's products are in bfloat16: a difference in the last bit of float32 can become one there.
    tolerance = 1e-5 if optimizer == "adamw" else 1e-3
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


def test_each_update_takes_its_own_batches_in_their_order():
    seen = []
    model = make_model()
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    Trainer(model, TrainConfig(steps=2, grad_accum_steps=3), make_batches()).fit()
    for got, (inputs, _) in zip(seen, islice(make_batches(), 6), strict=True):
        assert torch.equal(got, inputs)


def test_a_batch_without_real_targets_is_no_part_of_the_mean():  # SPEC F7
    batch = next(uneven_batches(1))
    empty = batch[0], torch.full_like(batch[1], IGNORE)
    model = make_model().double()
    found = []
    for batches in ([batch], [empty, batch, empty]):
        model.zero_grad()
        loss, n_targets = accumulate_gradients(
            lambda inputs, targets: batch_loss(model, inputs, targets), batches
        )
        assert n_targets == 1
        found.append([torch.tensor(loss), *(p.grad.clone() for p in model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_nothing_to_learn_from_is_refused():  # SPEC F7
    inputs = torch.zeros(2, 4, dtype=torch.long)
    batches = repeat((inputs, torch.full_like(inputs, IGNORE)))
    with pytest.raises(LessonsError, match=r"^a batch without a single real target"):
        Trainer(make_model(), TrainConfig(steps=1), batches).fit()


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


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_moves_every_parameter(optimizer):  # SPEC A6
    """Also those of the second optimizer. The first rate of the schedule holds for both."""
    model, before = make_model(), make_model()
    config = TrainConfig(steps=1, optimizer=optimizer, learning_rate=0.01)
    trainer = Trainer(model, config, make_batches())
    trainer.fit()
    for (name, now), old in zip(model.named_parameters(), before.parameters(), strict=True):
        assert not torch.equal(now, old), name
    rates = [group["lr"] for one in trainer.optimizers for group in one.param_groups]
    assert set(rates) == {0.01}


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


# What can go wrong


def optimizer_copies(trainer):
    return [
        {name: tensor.clone() for name, tensor in state.items()}
        for optimizer in trainer.optimizers
        for state in optimizer.state.values()
    ]


def assert_untouched(trainer, model_before, optimizers_before):
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor.nan_to_num(7.0), model_before[name].nan_to_num(7.0)), name
    for now, before in zip(optimizer_copies(trainer), optimizers_before, strict=True):
        assert now.keys() == before.keys()
        for name in before:
            assert torch.equal(now[name], before[name]), name


def trainer_poisoned_after_step_2(poison, **choices):
    """A trainer whose model gets `poison(model)` after step 2, and copies from just after that."""
    model, before = make_model(), []

    def on_step(report):
        if report.step == 2:
            poison(model)
        before[:] = copies(model), optimizer_copies(trainer)

    config = TrainConfig(steps=5, **choices)
    trainer = Trainer(model, config, make_batches(), on_step)
    return trainer, before


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("choices", [{}, {"grad_accum_steps": 2}, {"optimizer": "muon"}])
def test_a_loss_that_is_not_finite_stops_before_it_does_harm(value, choices):  # SPEC E7 S5
    def poison(model):
        model.head.bias.data[3] = value

    trainer, before = trainer_poisoned_after_step_2(poison, **choices)
    with pytest.raises(LessonsError, match=r"^the loss is (nan|inf) \(step 3\)\. Lower the "):
        trainer.fit()
    assert_untouched(trainer, *before)
    assert trainer.n_steps == 2


class InfiniteSlope(torch.autograd.Function):
    """x -> x, with a slope that isn't finite."""

    @staticmethod
    def forward(ctx, x, slope):
        ctx.slope = slope
        return x.clone()

    @staticmethod
    def backward(ctx, upstream):
        return upstream * ctx.slope, None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_before_it_does_harm(value):  # SPEC E7 S5
    def poison(model):
        model.head.register_forward_hook(lambda *args: InfiniteSlope.apply(args[-1], value))

    trainer, before = trainer_poisoned_after_step_2(poison)
    with pytest.raises(LessonsError, match=r"^the gradient norm is (nan|inf) \(step 3\)\. Lower"):
        trainer.fit()
    assert_untouched(trainer, *before)
    assert trainer.n_steps == 2


def test_data_that_ends_is_said():
    trainer = Trainer(
        make_model(), TrainConfig(steps=5, grad_accum_steps=2), islice(make_batches(), 5)
    )
    with pytest.raises(LessonsError, match=r"^the data is used up \(step 3\)\. Give Trainer bat"):
        trainer.fit()
    assert trainer.n_steps == 2


# Precision, compiling


def learned(**choices):
    """The reports of 60 steps on "ababab…", with a model of 32 numbers per token."""
    config = ModelConfig(256, context_length=8, d_model=32, n_layers=1, n_heads=2, d_ff=32)
    batches = random_windows(torch.tensor(list(b"ab" * 100)), 8, batch_size=4)
    train_config = TrainConfig(steps=60, learning_rate=0.01, min_learning_rate=0.001, **choices)
    model = make_model(config)
    return model, Trainer(model, train_config, batches).fit()


@pytest.fixture(scope="module")
def exact():
    return learned()


@pytest.mark.parametrize("choices", [{"precision": "bf16"}, {"precision": "fp16"}])
@pytest.mark.parametrize("loss_chunk_size", [None, 7])
def test_half_precision_learns_with_weights_in_float32(exact, choices, loss_chunk_size):  # SPEC S5
    model, reports = learned(**choices, loss_chunk_size=loss_chunk_size)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    losses = [report.loss for report in reports]
    assert losses[0] == pytest.approx(exact[1][0].loss, abs=0.01)
    assert losses[-1] < 0.05
    assert losses != [report.loss for report in exact[1]]  # something was rounded


def test_rows_of_the_loss_change_nothing(exact):  # SPEC E10
    _, reports = learned(loss_chunk_size=7)
    for ours, theirs in zip(reports, exact[1], strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-4)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_fused_optimizer_gives_the_same_run(optimizer):  # SPEC S5
    """Not to the last bit: the kernel adds in another order."""
    losses = [
        [report.loss for report in learned(optimizer=optimizer, fused=fused)[1]]
        for fused in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)


def fp16_step(scale, n_steps=1):
    """A model and its trainer after float16 steps with losses multiplied by `scale`."""
    model = make_model()
    trainer = Trainer(model, TrainConfig(steps=n_steps, precision="fp16"), make_batches())
    trainer.scaler.scale = float(scale)
    return trainer, trainer.fit()


def test_a_scaled_loss_is_reported_as_it_is_and_gradients_are_scaled_back():  # SPEC S5
    (one,) = fp16_step(1)[1]
    (other,) = fp16_step(1024)[1]
    assert one.loss == other.loss == pytest.approx(math.log(20), abs=0.05)
    assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-2)


def test_a_step_whose_scaled_gradients_overflow_is_left_out():  # SPEC S5
    before = copies(make_model())
    trainer, (report,) = fp16_step(2.0**40)
    assert not math.isfinite(report.grad_norm)
    assert report.skipped
    assert math.isfinite(report.loss)
    assert same(trainer.model, before)
    assert not optimizer_copies(trainer)
    assert trainer.scaler.scale == 2.0**39
    assert trainer.n_steps == 1  # it counts, in the schedule too
    trainer, reports = fp16_step(2.0**26, n_steps=30)
    assert math.isfinite(reports[-1].grad_norm)  # until the scale fits
    assert not same(trainer.model, before)
    skipped = [report.skipped for report in reports]
    assert skipped == [not math.isfinite(report.grad_norm) for report in reports]
    assert 0 < sum(skipped) < 30


class Spike(torch.autograd.Function):
    """Changes nothing on the way forward; on the way back, every gradient becomes infinite."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, upstream):
        return upstream * math.inf


def test_gradients_that_are_never_finite_are_told_and_then_the_end():  # SPEC S5
    model, reports = make_model(), []
    before = copies(model)
    model.final_norm.register_forward_hook(lambda module, inputs, output: Spike.apply(output))
    config = TrainConfig(steps=50, precision="fp16")
    trainer = Trainer(model, config, make_batches(), on_step=reports.append)
    with pytest.raises(LessonsError, match=r"^no loss scale makes the gradients finite\. Lower"):
        trainer.fit()
    assert [report.skipped for report in reports] == [True] * 16  # 65,536 halved down to 1
    assert same(model, before)


@pytest.mark.parametrize("chunk_size", [None, 16])
def test_batches_may_have_the_type_of_a_token_file(chunk_size):
    def small(batches):
        return ([part.to(torch.uint16) for part in batch] for batch in batches)

    config = TrainConfig(steps=3, loss_chunk_size=chunk_size)
    models, losses = (make_model(), make_model()), []
    for model, feed in zip(models, (make_batches(), small(make_batches())), strict=True):
        losses.append([report.loss for report in Trainer(model, config, feed).fit()])
    assert losses[0] == losses[1]
    batch = next(make_batches())
    lengths = torch.ones(20, dtype=torch.long)
    expected = evaluate(models[0], [batch], lengths)
    assert evaluate(models[0], small([batch]), lengths) == expected


def test_a_compiled_run_equals_an_eager_one(monkeypatch):  # SPEC S5
    """The graph that torch.compile sees, run operation by operation: the same numbers."""
    compiled, real = [], torch.compile

    def compile_without_code(function):
        compiled.append(function)
        return real(function, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", compile_without_code)
    runs = []
    for choice in (False, True):
        config = TrainConfig(steps=3, compile=choice)
        model = make_model()
        runs.append((model, Trainer(model, config, make_batches()).fit()))
    assert len(compiled) == 1
    for ours, theirs in zip(runs[0][1], runs[1][1], strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-6)
    for ours, theirs in zip(*(model.parameters() for model, _ in runs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_warning_of_pytorchs_compiler_is_no_error(monkeypatch):
    """Its import warns of what PyTorch itself deprecates; here, warnings are errors."""

    def warn(function):
        warnings.warn("`torch.jit.script_method` is deprecated.", DeprecationWarning, stacklevel=2)
        return function

    monkeypatch.setattr(torch, "compile", warn)
    assert len(Trainer(make_model(), TrainConfig(steps=1, compile=True), make_batches()).fit()) == 1


# Looking at held-out text


def trainer_with_losses(losses, **choices):
    """A trainer whose looks at the held-out text find `losses`, one after another."""
    looks = iter(losses)
    config = TrainConfig(**{"steps": 20, "eval_every": 2, **choices})
    return Trainer(
        make_model(), config, make_batches(), evaluate=lambda: Evaluation(next(looks), 1)
    )


def test_looks_come_when_they_are_due_and_the_best_is_known():  # SPEC A6 S5
    trainer = trainer_with_losses([5.0, 4.0, 4.5, 4.0, 3.0], steps=11)
    reports = trainer.fit()
    found = {r.step: (r.validation, r.is_best) for r in reports if r.validation is not None}
    assert found == {
        **{2: (5.0, True), 4: (4.0, True), 6: (4.5, False)},
        **{8: (4.0, False), 10: (3.0, True)},
    }
    assert not any(r.is_best for r in reports if r.validation is None)
    assert (trainer.best, trainer.best_step) == (3.0, 10)


@pytest.mark.parametrize(
    ("losses", "patience", "last"),
    [
        ([5.0, 4.0, 4.0, 4.1], 2, 8),  # as low as the best is not a new best
        ([5.0, 6.0], 1, 4),
        ([5.0, 6.0, 4.0, 4.5, 4.5, 3.0, 3.0, 3.0, 3.0, 3.0], 3, 18),
        ([5.0, math.nan, math.nan], 2, 6),  # what is not a number is no best either
        ([5.0] * 10, 0, 20),  # 0: never
    ],
)
def test_patience_ends_a_run(losses, patience, last):  # SPEC S5
    assert trainer_with_losses(losses, patience=patience).fit()[-1].step == last


@pytest.mark.parametrize("choices", [{"eval_every": 0}, {"validate": None}])
def test_nothing_is_looked_at_unless_asked(choices):
    def refuse():
        raise AssertionError

    config = TrainConfig(steps=3, eval_every=choices.get("eval_every", 1))
    validate = choices.get("validate", refuse)
    reports = Trainer(make_model(), config, make_batches(), evaluate=validate).fit()
    assert [report.validation for report in reports] == [None] * 3


def test_looking_changes_nothing_but_the_reports():  # SPEC S5
    config = ModelConfig(**{**SMALL.to_dict(), "d_model": 32, "dropout": 0.3})
    runs = []
    for eval_every in (0, 1):
        model = make_model(config)
        held_out = list(islice(make_batches(seed=9), 2))
        train_config = TrainConfig(steps=6, eval_every=eval_every)
        trainer = Trainer(
            model,
            train_config,
            make_batches(),
            evaluate=lambda model=model, held_out=held_out: evaluate(model, held_out),
        )
        runs.append((model, [report.loss for report in trainer.fit()]))
    assert runs[0][1] == runs[1][1]
    assert same(runs[0][0], runs[1][0].state_dict())


def test_a_run_can_be_stopped_from_outside():
    def on_step(report):
        trainer.stop = report.step == 3

    trainer = Trainer(make_model(), TrainConfig(steps=9), make_batches(), on_step)
    assert len(trainer.fit()) == 3


def test_fit_trains_in_training_mode():
    model = make_model().eval()
    modes = []
    model.register_forward_hook(lambda module, args, output: modes.append(module.training))
    Trainer(model, TrainConfig(steps=2), make_batches()).fit()
    assert modes == [True, True]


def test_dropout_draws_anew_for_every_batch():  # SPEC F4
    config = ModelConfig(**{**SMALL.to_dict(), "d_model": 32, "dropout": 0.5})
    config_train = TrainConfig(steps=4, learning_rate=1e-9, min_learning_rate=0.0)
    reports = Trainer(make_model(config), config_train, repeat(next(make_batches()))).fit()
    assert len({report.loss for report in reports}) == 4
    tiny = ModelConfig(**{**SMALL.to_dict(), "d_model": 4, "dropout": 0.5})  # too small for it
    reports = Trainer(make_model(tiny), config_train, repeat(next(make_batches()))).fit()
    assert max(r.loss for r in reports) - min(r.loss for r in reports) < 1e-5


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
