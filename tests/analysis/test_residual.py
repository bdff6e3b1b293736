"""The residual stream is the sum of its parts, and so is every logit."""

from dataclasses import replace

import pytest
import torch

from transformer_lessons.analysis import (
    direct_logit_attribution,
    head_ablation,
    logit_lens,
    residual_parts,
    residual_streams,
)
from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.presets import preset

PLAIN = ModelConfig(20, context_length=9, d_model=16, n_layers=3, n_heads=4, d_ff=10)
LLAMA = replace(
    PLAIN, n_kv_heads=2, norm="rms", ffn="swiglu", bias=False, head_bias=False, tie_embeddings=True
)
GPT = replace(PLAIN, norm="layer", position="learned", ffn="gelu", bias=True, head_bias=True)
FADED = replace(preset("fluctlight"), d_model=16, n_heads=4, d_ff=8, n_layers=2)  # scale 12 / 28
CONFIGS = [PLAIN, LLAMA, GPT, FADED, preset("fluctlight")]
TOKENS = torch.randint(20, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=CONFIGS)
def model(request, random_model):
    return random_model(request.param, size=0.4)


def test_the_streams_are_those_of_the_blocks(model):
    streams, n_layers = residual_streams(model, TOKENS), model.config.n_layers
    assert streams.shape == (n_layers + 1, 2, 9, model.config.d_model)
    assert torch.equal(streams[0], model.embed(TOKENS, torch.arange(9)))
    assert torch.equal(model.final_norm(streams[-1]), model.hidden_states(TOKENS))


def test_the_lens_at_the_end_is_the_model(model):
    lens = logit_lens(model, TOKENS)
    assert torch.equal(lens[-1], model(TOKENS))
    first = model.final_norm(model.embed(TOKENS, torch.arange(9)))
    torch.testing.assert_close(lens[0], model.head(first), rtol=0, atol=1e-12)


def test_the_lens_of_a_cut_model_is_its_output(random_model):
    """An oracle of its own: throw the last blocks away and run what is left."""
    model = random_model(LLAMA, size=0.4)
    lens = logit_lens(model, TOKENS)
    for depth in (2, 1):
        model.blocks = model.blocks[:depth]
        torch.testing.assert_close(lens[depth], model(TOKENS), rtol=0, atol=1e-12)


def test_the_parts_add_up_to_every_stream(model):
    parts, streams = residual_parts(model, TOKENS), residual_streams(model, TOKENS)
    total = 0
    for name, part in parts.items():
        if name in [f"{layer}.0" for layer in range(model.config.n_layers)]:
            expected = streams[int(name[0])]
            torch.testing.assert_close(total, expected, rtol=0, atol=1e-11)
        total = total + part
    torch.testing.assert_close(total, streams[-1], rtol=0, atol=1e-11)  # sizes of about 10


def test_the_names_of_the_parts(random_model):
    assert list(residual_parts(random_model(replace(LLAMA, n_layers=2)), TOKENS)) == [
        "embedding",
        *("0.0", "0.1", "0.2", "0.3", "0.mlp"),
        *("1.0", "1.1", "1.2", "1.3", "1.mlp"),
    ]
    assert "0.bias" in residual_parts(random_model(GPT), TOKENS)


def test_a_silenced_head_adds_nothing_and_the_others_in_its_block_as_before(random_model):
    model = random_model(LLAMA, size=0.4)
    before = residual_parts(model, TOKENS)
    with head_ablation(model, [(1, 2)]):
        after = residual_parts(model, TOKENS)
    assert not after["1.2"].any()
    for name in ("embedding", "0.3", "0.mlp", "1.0", "1.1", "1.3"):
        assert torch.equal(after[name], before[name])
    assert not torch.equal(after["1.mlp"], before["1.mlp"])


@pytest.mark.parametrize(("token", "position"), [(7, -1), (0, 0), (19, 4)])
def test_the_attribution_sums_to_the_logit(model, token, position):
    shares = direct_logit_attribution(model, TOKENS, token, position)
    logits = model(TOKENS)[:, position, token]
    torch.testing.assert_close(sum(shares.values()), logits, rtol=0, atol=1e-10)
    assert [*shares][:-1] == [*residual_parts(model, TOKENS)]


def test_the_attribution_is_a_derivative_with_the_norm_held(random_model):
    """Push one part by itself: the logit, with the norm's number held, moves by its share."""
    model = random_model(GPT, size=0.4)
    parts = residual_parts(model, TOKENS)
    x = torch.stack([*parts.values()]).sum(0)[:, -1]
    deviation = (x.var(-1, correction=0, keepdim=True) + model.config.norm_eps).sqrt()
    norm = model.final_norm

    def logit(stream):  # the LayerNorm written out, with the first stream's deviation
        normed = (stream - stream.mean(-1, keepdim=True)) / deviation * norm.weight + norm.bias
        return model.head(normed)[:, 7]

    shares = direct_logit_attribution(model, TOKENS, 7)
    for name, part in parts.items():
        moved = logit(x + part[:, -1]) - logit(x)
        torch.testing.assert_close(shares[name], moved, rtol=0, atol=1e-10)


def test_post_norm_is_refused_where_parts_would_not_add_up(random_model):  # SPEC F5
    model = random_model(replace(PLAIN, norm_placement="post"))
    assert torch.equal(logit_lens(model, TOKENS)[-1], model(TOKENS))
    for function in (residual_parts, lambda *x: direct_logit_attribution(*x, 3)):
        with pytest.raises(LessonsError, match="post-norm model don't add up"):
            function(model, TOKENS)


@pytest.mark.parametrize(
    ("token", "position", "message"),
    [
        (20, -1, "token 20 is not from 0 to 19"),
        (3, 9, "position 9 is not from 0 to 8"),
        (3, -10, "position -10 is not"),
    ],
)
def test_unknown_tokens_and_positions(random_model, token, position, message):  # SPEC F5
    with pytest.raises(LessonsError, match=message):
        direct_logit_attribution(random_model(LLAMA), TOKENS, token, position)
