"""Grown models compute what they computed before; what can't grow says so.  # SPEC F13, F3"""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import layer_norm

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.attention import fused_attend
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.trainer import Trainer
from transformer_lessons.weights.growth import deepen, widen_feedforward, widen_residual
from transformer_lessons.weights.lora import add_lora
from transformer_lessons.weights.shipped import load_shipped

BASE = ModelConfig(50, 12, d_model=12, n_layers=2, n_heads=3, d_ff=10)
GPT = replace(BASE, position="learned", ffn="gelu", head_bias=False, tie_embeddings=True)
LLAMA = replace(BASE, n_heads=6, n_kv_heads=2, norm="rms", ffn="swiglu", norm_eps=0.01)
LLAMA = replace(LLAMA, bias=False, head_bias=False, tie_embeddings=True)
CONFIGS = {
    "fluctlight": preset("fluctlight"),
    "gpt": GPT,
    "llama": LLAMA,
    "layer norm, large eps": replace(BASE, norm_eps=0.1),
    "rms norm with biases": replace(BASE, norm="rms", rope_v_scale=0.5),
    "half adaptive": replace(BASE, adaptive_norm=True),
    "half adaptive, rms": replace(BASE, adaptive_norm=True, norm="rms"),
}
GROW = {
    "deeper at 0": lambda model: deepen(model, 0),
    "deeper at 1": lambda model: deepen(model, 1),
    "deeper at the end": lambda model: deepen(model, 2),
    "a wider MLP": lambda model: widen_feedforward(model, 23),
    "a little wider": lambda model: widen_residual(model, model.config.d_model + 1),
    "twice as wide": lambda model: widen_residual(model, 2 * model.config.d_model),
    "all of it": lambda model: widen_residual(widen_feedforward(deepen(model, 1), 17), 27),
    "wider twice": lambda model: widen_residual(widen_residual(model, 20), 31),
}


def tokens(config):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, config.vocab_size, (3, config.context_length), generator=generator)


def logits(model, positions=None):
    with torch.inference_mode():
        return model(tokens(model.config), positions=positions)


@pytest.mark.parametrize("grow", GROW)
@pytest.mark.parametrize("name", CONFIGS)
def test_it_computes_the_same(random_model, name, grow):  # SPEC F13, F3
    model = random_model(CONFIGS[name])
    before, weights = logits(model), {k: x.clone() for k, x in model.state_dict().items()}
    grown = GROW[grow](model)
    assert sum(p.numel() for p in grown.parameters()) > sum(p.numel() for p in model.parameters())
    # float64 keeps 16 digits; the logits are below 400, and the sums are longer now.
    torch.testing.assert_close(logits(grown), before, rtol=0, atol=2e-12)
    if grow.startswith("deeper"):
        assert torch.equal(logits(grown), before)
    assert all(torch.equal(x, weights[k]) for k, x in model.state_dict().items())  # as it was


@pytest.mark.parametrize("name", CONFIGS)
def test_what_it_says_of_itself_is_what_it_is(random_model, name):  # SPEC F13
    grown = GROW["all of it"](random_model(CONFIGS[name]))
    config = grown.config
    assert (config.n_layers, config.d_ff, config.d_model) == (3, 17, 27)
    assert config.heads == CONFIGS[name].heads
    shapes = {k: x.shape for k, x in Decoder(config).state_dict().items()}
    assert {k: x.shape for k, x in grown.state_dict().items()} == shapes
    copied = Decoder(config).double()
    copied.load_state_dict(grown.state_dict())  # what isn't in the tensors follows from the config
    torch.testing.assert_close(logits(copied.eval()), logits(grown), rtol=0, atol=1e-12)
    is_tied = grown.head.weight is grown.embedding.weight
    assert is_tied == config.tie_embeddings


@pytest.mark.parametrize("at", [0, 1, 2])
def test_where_the_new_block_is(random_model, at):  # SPEC F13
    model = random_model(BASE)
    blocks = list(deepen(model, at).blocks)
    new = blocks.pop(at)
    for block, old in zip([*blocks, new], [*model.blocks, model.blocks[min(at, 1)]], strict=True):
        same = {k: torch.equal(x, old.state_dict()[k]) for k, x in block.state_dict().items()}
        changed = {name for name, is_same in same.items() if not is_same}
        layers = ("attention.out", "feedforward.down") if block is new else ()
        assert changed == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def test_it_keeps_precision_mode_and_attention():  # SPEC F13
    model = Decoder(BASE, fused_attend).to(torch.bfloat16).train()
    for grow in GROW.values():
        grown = grow(model)
        assert grown.training
        assert {p.dtype for p in grown.parameters()} == {torch.bfloat16}
        assert all(block.attention.attend is fused_attend for block in grown.blocks)


@pytest.mark.parametrize("grow", ["deeper at 1", "a wider MLP", "twice as wide"])
@pytest.mark.parametrize("name", ["fluctlight", "gpt", "llama"])
def test_training_takes_into_use_what_is_new(random_model, name, grow):  # SPEC F13
    """After a few steps all kinds of new numbers have moved, and the loss has fallen."""
    model = random_model(CONFIGS[name], size=0.3).float()
    grown = GROW[grow](model)
    old, before = model.state_dict(), {k: p.clone() for k, p in grown.named_parameters()}
    batch = tokens(model.config), tokens(model.config).roll(-1, 1)
    reports = Trainer(grown, TrainConfig(steps=5, learning_rate=0.01), iter([batch] * 5)).fit()
    assert reports[-1].loss < reports[0].loss
    n_checked = 0
    for key, parameter in grown.named_parameters():
        is_new = torch.ones_like(parameter, dtype=torch.bool)
        if not key.startswith("blocks.1") or grow != "deeper at 1":
            is_new[tuple(map(slice, old[key.replace("blocks.2", "blocks.1")].shape))] = False
        is_idle = name == "fluctlight" and "norm" in key and grow == "deeper at 1"
        if is_new.any() and not is_idle:
            # Of the untied embedding only rows of bytes that occur; ReLUs may be silent.
            enough = 0.1 if name == "fluctlight" else 0.9
            assert (parameter != before[key])[is_new].float().mean() > enough, key
            n_checked += 1
    assert n_checked >= 4


def test_the_shipped_model_grows():  # SPEC F13
    model = load_shipped()[0].eval()
    text = torch.randint(0, 4096, (2, 48), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = model(text)
        assert torch.equal(deepen(model, 3)(text), before)
        assert torch.equal(widen_residual(model, 768)(text), before)  # the factor is exactly 1/2
        # float32: seven digits of logits up to 20
        torch.testing.assert_close(widen_residual(model, 256)(text), before, rtol=0, atol=1e-4)
        torch.testing.assert_close(widen_feedforward(model, 768)(text), before, rtol=0, atol=1e-4)


def test_without_the_rescaled_eps_it_is_another_function(random_model):  # SPEC F13
    model = random_model(LLAMA, size=0.2)
    grown = widen_residual(model, 24)
    assert grown.config.norm_eps == LLAMA.norm_eps / 2
    for norm in (m for m in grown.modules() if hasattr(m, "eps")):
        norm.eps = LLAMA.norm_eps
    assert (logits(grown) - logits(model)).abs().max() > 1e-3


def test_turned_values_keep_their_flaw(random_model):  # SPEC F2, F13
    """A model whose values are turned depends on where a text stands, and grown it does equally."""
    model = random_model(replace(BASE, rope_v_scale=1.0))
    far = torch.arange(12) + 5
    moved = logits(model, far) - logits(model)
    assert moved.abs().max() > 0.01
    for grow in GROW.values():
        grown = grow(model)
        torch.testing.assert_close(logits(grown, far) - logits(grown), moved, rtol=0, atol=1e-12)


# ---- The adaptive norm ---------------------------------------------------------------------------


def test_only_at_width_4_has_an_adaptive_norm_no_effect(random_model):  # SPEC F3
    for width in (4, 6, 12, 30):
        config = replace(preset("fluctlight"), d_model=width, n_heads=1)
        model = random_model(config)
        before = logits(model)
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.data += 1
        assert torch.equal(logits(model), before) == (width == 4)


def test_a_fluctlight_grows_to_31_with_norms_that_do_nothing_yet(random_model):  # SPEC F3, F13
    model = random_model(preset("fluctlight"))
    for width in (5, 8, 31):
        grown = widen_residual(model, width)
        assert grown.final_norm.scale == pytest.approx((width - 4) / 28)
        assert (grown.final_norm.weight[:4] == 0).all()
        torch.testing.assert_close(logits(grown), logits(model), rtol=0, atol=1e-12)
    with pytest.raises(
        LessonsError, match=r"this adaptive_norm can't be grown in this way \(ModelConfig.adaptive"
    ):
        widen_residual(model, 32)
    full = replace(preset("fluctlight"), d_model=32)
    grown = widen_residual(random_model(full), 40)  # a norm that is complete stays complete
    torch.testing.assert_close(logits(grown), logits(random_model(full)), rtol=0, atol=1e-12)


# ---- What can't grow -----------------------------------------------------------------------------


def test_why_a_post_norm_model_cannot_be_deepened():  # SPEC F13
    """A silent post-norm block maps two streams to one, whatever its gain and bias are."""
    one, two = torch.tensor([1.0, -2.0, 4.0]), torch.tensor([2.0, -4.0, 8.0])
    torch.testing.assert_close(layer_norm(one, (3,), eps=0.0), layer_norm(two, (3,), eps=0.0))
    model = Decoder(replace(BASE, norm_placement="post"))
    for grow in (lambda m: deepen(m, 1), lambda m: widen_residual(m, 24)):
        with pytest.raises(LessonsError, match=r"norm_placement can't.*ModelConfig.norm_placement"):
            grow(model)


def test_a_post_norm_model_can_have_more_hidden_units(random_model):  # SPEC F13
    model = random_model(replace(BASE, norm_placement="post"))
    torch.testing.assert_close(logits(widen_feedforward(model, 30)), logits(model))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"position": "sinusoidal"}, "position"),
        ({"qk_norm": True}, "qk_norm"),
        ({"scale_embeddings": True}, "scale_embeddings"),
        ({"adaptive_norm": True, "tie_embeddings": True}, "tie_embeddings"),
    ],
)
def test_what_a_wider_stream_would_change(changes, field):  # SPEC F13
    model = Decoder(replace(BASE, **changes))
    with pytest.raises(LessonsError, match=f"this {field} can't be grown") as error:
        widen_residual(model, 24)
    assert error.value.where == f"ModelConfig.{field}"
    assert deepen(model, 1).config.n_layers == 3
    assert widen_feedforward(model, 11).config.d_ff == 11


@pytest.mark.parametrize(
    ("grow", "said"),
    [
        (lambda m: deepen(m, 3), r"at = 3 is not an integer from 0 to 2 \(at\)"),
        (lambda m: deepen(m, -1), "at = -1 is not"),
        (lambda m: deepen(m, True), "at = True is not"),
        (lambda m: deepen(m, 1.0), "at = 1.0 is not"),
        (lambda m: widen_feedforward(m, 9), r"d_ff = 9 is less than 10 \(ModelConfig.d_ff\)"),
        (lambda m: widen_feedforward(m, "20"), r"d_ff = '20' is not .*\(ModelConfig.d_ff\)"),
        (lambda m: widen_residual(m, 11), r"d_model = 11 is less than 12 \(ModelConfig.d_model\)"),
        (lambda m: widen_residual(m, 0), r"d_model = 0 is not .*\(ModelConfig.d_model\)"),
        (lambda m: widen_residual(m, 24.0), "d_model = 24.0 is not"),
        (lambda m: widen_residual(m, None), "d_model = None is not"),
        (lambda m: widen_feedforward(add_lora(m, 1, 1.0), 20), "LoRA that is not merged"),
    ],
)
def test_bad_input(grow, said):  # SPEC F13
    with pytest.raises(LessonsError, match=said):
        grow(Decoder(BASE))
