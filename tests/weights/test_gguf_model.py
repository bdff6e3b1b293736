"""Models in GGUF files: the same logits as transformers' models, or an error that says why not."""

import re
import weakref

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from transformer_lessons.config import RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.rope import to_interleaved_layout
from transformer_lessons.support.gguf_config import gguf_config
from transformer_lessons.support.gguf_file import BLOCK_SIZES, read_gguf
from transformer_lessons.weights import name_maps, pretrained
from transformer_lessons.weights.gguf_blocks import gguf_tensor
from transformer_lessons.weights.pretrained import gguf_decoder, load_gguf, load_pretrained

from .gguf_writing import permute, write_model

SIZES = {
    "vocab_size": 70,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
    "attn_implementation": "eager",
    "use_cache": False,
}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
LLAMA3 = {
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
}


def llama(**options):
    return LlamaForCausalLM(LlamaConfig(**(SIZES | ROPE | options)))


def qwen2(**options):
    return Qwen2ForCausalLM(Qwen2Config(**(SIZES | ROPE | options)))


def qwen3(**options):
    return Qwen3ForCausalLM(Qwen3Config(**(SIZES | ROPE | {"head_dim": 24} | options)))


def gpt2(**options):
    sizes = {"vocab_size": 70, "n_positions": 40, "n_embd": 64, "n_layer": 2, "n_head": 4}
    return GPT2LMHeadModel(GPT2Config(**sizes, attn_implementation="eager", **options))


MAKERS = {"llama": llama, "qwen2": qwen2, "qwen3": qwen3, "gpt2": gpt2}


def randomized(model, seed=0):
    """`model`, every number random and large: norms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model.eval()


def tokens(n_texts=2, n_tokens=37):
    return torch.randint(70, (n_texts, n_tokens), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def difference(theirs, path):
    """The largest difference of logits, in float64, with the model that was read."""
    model = gguf_decoder(read_gguf(path), torch.float64)
    expected = theirs.double()(tokens()).logits
    assert expected.std() > 1  # the numbers are large enough to tell
    return float((model(tokens()) - expected).abs().max())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", MAKERS)
def test_logits_are_those_of_transformers(tmp_path, name, tied):  # SPEC G5
    theirs = randomized(MAKERS[name](tie_word_embeddings=tied))
    write_model(tmp_path / "a.gguf", theirs)
    assert difference(theirs, tmp_path / "a.gguf") < 1e-5
    model = gguf_decoder(read_gguf(tmp_path / "a.gguf"))
    assert model.config.tie_embeddings is tied
    assert (model.head.weight is model.embedding.weight) is tied
    assert not model.training


@pytest.mark.parametrize("kind", sorted(BLOCK_SIZES))
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_logits_in_every_type_are_those_of_the_dequantized_weights(tmp_path, name, kind):
    # SPEC G5; TARGETS: 1e-4
    theirs = randomized(MAKERS[name]())
    write_model(tmp_path / "a.gguf", theirs, kind)
    assert {t.type for t in read_gguf(tmp_path / "a.gguf").tensors.values()} == {"F32", kind}
    assert difference(theirs, tmp_path / "a.gguf") < 1e-5


def test_the_test_would_see_rows_in_the_wrong_order(tmp_path, monkeypatch):  # SPEC G5
    theirs = randomized(llama())
    write_model(tmp_path / "a.gguf", theirs)
    monkeypatch.setattr(name_maps, "to_split_layout", lambda x, n_heads, dim: x)
    assert difference(theirs, tmp_path / "a.gguf") > 0.1


def test_the_permutation_is_the_interleaved_layout():  # SPEC G5
    rows = np.arange(48, dtype=np.float32).reshape(24, 2)
    expected = to_interleaved_layout(torch.tensor(rows), n_heads=3, dim=0)
    assert torch.equal(torch.tensor(permute(rows, 3)), expected)


def test_biases_of_a_llama_are_turned_too(tmp_path):  # SPEC G5
    theirs = randomized(llama(attention_bias=True))
    with torch.no_grad():
        for layer in theirs.model.layers:  # the book's decoder has this one only with all others
            layer.self_attn.o_proj.bias.zero_()
    skip = [f"blk.{number}.attn_output.bias" for number in range(2)]
    write_model(tmp_path / "a.gguf", theirs, skip=skip)
    assert gguf_config(read_gguf(tmp_path / "a.gguf")).qkv_bias
    assert difference(theirs, tmp_path / "a.gguf") < 1e-5


def test_the_factors_of_llama_3_become_its_scaling(tmp_path):  # SPEC G5
    theirs = randomized(llama(**LLAMA3, hidden_size=128, max_position_embeddings=16_384))
    inverse = theirs.model.rotary_emb.inv_freq
    factors = 500_000.0 ** -(torch.arange(0, 32, 2) / 32) / inverse
    rounded = factors.round(decimals=2).tolist()
    assert rounded == [1.0] * 8 + [pytest.approx(2.69)] + [8.0] * 7  # fast, between, slow
    write_model(tmp_path / "a.gguf", theirs, extra={"rope_freqs.weight": factors.numpy()})
    config = gguf_config(read_gguf(tmp_path / "a.gguf"))
    assert config.rope_scaling.kind == "llama3"
    assert config.rope_scaling.factor == pytest.approx(8.0)
    assert config.rope_scaling.original_context_length == 8192
    assert difference(theirs, tmp_path / "a.gguf") < 1e-4
    wrong = {"rope_freqs.weight": factors.flip(0).contiguous().numpy()}
    write_model(tmp_path / "b.gguf", theirs, extra=wrong)
    with pytest.raises(LessonsError, match="the factors are not those of Llama 3"):
        gguf_decoder(read_gguf(tmp_path / "b.gguf"))


SCALINGS = [
    ({"type": "linear", "factor": 4.0}, RopeScaling("linear", 4.0)),
    (
        {"type": "yarn", "factor": 2.0, "original_context_length": 20, "finetuned": True},
        RopeScaling("yarn", 2.0, 20),
    ),
    ({"type": "none"}, None),
]


@pytest.mark.parametrize(("settings", "expected"), SCALINGS)
def test_named_scalings(tmp_path, settings, expected):  # SPEC G5
    metadata = {f"qwen2.rope.scaling.{name}": value for name, value in settings.items()}
    write_model(tmp_path / "a.gguf", randomized(qwen2()), metadata=metadata)
    assert gguf_config(read_gguf(tmp_path / "a.gguf")).rope_scaling == expected


def test_a_window_is_read(tmp_path):  # SPEC G5
    metadata = {"llama.attention.sliding_window": 7}
    write_model(tmp_path / "a.gguf", randomized(llama()), metadata=metadata)
    assert gguf_config(read_gguf(tmp_path / "a.gguf")).sliding_window == 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_come_in_the_dtype_that_is_asked_for(tmp_path, dtype):  # SPEC G5
    theirs = randomized(llama())
    write_model(tmp_path / "a.gguf", theirs, "Q8_0")
    model, tokenizer = load_gguf(tmp_path / "a.gguf", dtype)
    assert tokenizer is None
    exact = gguf_decoder(read_gguf(tmp_path / "a.gguf"))
    for name, parameter in model.named_parameters():
        assert parameter.dtype == dtype
        assert torch.equal(parameter, exact.get_parameter(name).to(dtype))


def test_one_tensor_at_a_time_is_unpacked(tmp_path, monkeypatch):  # SPEC G5
    write_model(tmp_path / "a.gguf", randomized(llama(num_hidden_layers=12)), "Q4_1")
    alive, most = [], []

    def reading(file, name, dtype):
        most.append(sum(ref() is not None for ref in alive))
        result = gguf_tensor(file, name, dtype)
        if "attn_q.weight" in name:  # this one is changed, and so must not stay
            alive.append(weakref.ref(result.untyped_storage()))
        return result

    monkeypatch.setattr(pretrained, "gguf_tensor", reading)
    gguf_decoder(read_gguf(tmp_path / "a.gguf"))
    assert len(alive) == 12
    assert max(most) <= 1


# What doesn't fit

REFUSED = {
    "another architecture": ({"general.architecture": "mamba"}, "'mamba' is not an architecture"),
    "no architecture": ({"general.architecture": 7}, "'7' is not an architecture"),
    "experts": ({"llama.expert_count": 8}, "not known what this means"),
    "something unknown": ({"llama.attention.sinks": 4}, "it is not known what this means"),
    "another vocabulary": ({"llama.vocab_size": 71}, "71 doesn't fit"),
    "half heads turned": ({"llama.rope.dimension_count": 8}, "8 doesn't fit"),
    "values of another width": ({"llama.attention.value_length": 8}, "8 doesn't fit"),
    "a size in words": ({"llama.block_count": "two"}, "block_count is 'two', not of the type int"),
    "a negative norm": ({"llama.attention.layer_norm_rms_epsilon": -1.0}, "norm_eps = -1.0"),
    "no heads": (
        {"llama.attention.head_count": 0, "llama.rope.dimension_count": 64},
        "n_heads = 0",
    ),
    "heads that don't fit": ({"llama.attention.head_count_kv": 3}, "4 query heads can't share 3"),
    "blocks that differ": ({"llama.feed_forward_length": [96, 64]}, "blocks that differ"),
    "more blocks": ({"llama.block_count": 3}, "tensor 'blk.2.attn_norm.weight' is missing"),
    "fewer blocks": ({"llama.block_count": 1}, "tensor 'blk.1."),
    "very many blocks": ({"llama.block_count": 2**31}, "has 2,147,483,648 blocks"),
    "a huge model": ({"llama.feed_forward_length": 2**31}, "the configuration means"),
    "wider": ({"llama.feed_forward_length": 64}, "can't make"),
    "a strange scaling": ({"llama.rope.scaling.type": "longrope"}, "'longrope' is not linear"),
    "a scaling without factor": ({"llama.rope.scaling.type": "linear"}, "factor is missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(tmp_path, name):  # SPEC S9, G5
    metadata, what = REFUSED[name]
    path, model = tmp_path / "a.gguf", randomized(llama())
    write_model(path, model)
    file = read_gguf(path)
    file.metadata.update(metadata)
    with pytest.raises(LessonsError, match=re.escape(what)) as caught:
        gguf_decoder(file)
    assert str(path) in caught.value.where


@pytest.mark.parametrize("key", ["context_length", "block_count", "rope.freq_base"])
def test_a_setting_that_is_missing(tmp_path, key):  # SPEC S9
    write_model(tmp_path / "a.gguf", randomized(llama()))
    file = read_gguf(tmp_path / "a.gguf")
    del file.metadata[f"llama.{key}"]
    if key == "rope.freq_base":  # llama.cpp leaves the usual one out
        assert gguf_config(file).rope_theta == 10_000.0
    else:
        with pytest.raises(LessonsError, match=f"{key} is missing, not of the type int"):
            gguf_config(file)


@pytest.mark.parametrize("name", ["blk.1.ffn_up.weight", "output_norm.weight", "token_embd.weight"])
def test_a_tensor_that_is_missing(tmp_path, name):  # SPEC S9
    write_model(tmp_path / "a.gguf", randomized(llama()), skip=[name])
    with pytest.raises(LessonsError, match=f"tensor '{name}' is missing"):
        gguf_decoder(read_gguf(tmp_path / "a.gguf"))


def test_a_qwen3_without_its_norms_is_refused(tmp_path):  # SPEC S9, G5
    skip = [f"blk.{number}.attn_{letter}_norm.weight" for number in range(2) for letter in "qk"]
    write_model(tmp_path / "a.gguf", randomized(qwen3()), skip=skip)
    with pytest.raises(LessonsError, match=r"tensor 'blk.0.attn_q_norm.weight' is missing"):
        gguf_decoder(read_gguf(tmp_path / "a.gguf"))


def test_a_file_may_be_named_in_capitals(tmp_path):  # SPEC S9
    write_model(tmp_path / "A.GGUF", randomized(llama()))
    assert load_pretrained(tmp_path / "A.GGUF")[0].config.d_model == 64


def test_a_tensor_that_is_left_over(tmp_path):  # SPEC S9
    extra = {"blk.0.attn_sinks.weight": np.zeros(4, np.float32)}
    write_model(tmp_path / "a.gguf", randomized(llama()), extra=extra)
    with pytest.raises(LessonsError, match=r"'blk.0.attn_sinks.weight' is not part of this model"):
        gguf_decoder(read_gguf(tmp_path / "a.gguf"))
