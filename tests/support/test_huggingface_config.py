"""config.json: every word of it is understood, or known to be harmless, or refused by name."""

import pytest

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.presets import preset
from transformer_lessons.support.huggingface_config import config_from_huggingface
from transformer_lessons.support.huggingface_rope import read_rope, write_rope

LLAMA = {
    "model_type": "llama",
    "vocab_size": 50,
    "max_position_embeddings": 64,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
}
MISTRAL, QWEN2, QWEN3 = (LLAMA | {"model_type": name} for name in ("mistral", "qwen2", "qwen3"))
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 50,
    "n_positions": 64,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 6,
}
# As published: SmolLM2-135M (Apache 2.0), whose config.json is older than `rope_parameters`.
SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "hidden_act": "silu",
    "hidden_size": 576,
    "initializer_range": 0.041666666666666664,
    "intermediate_size": 1536,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.1",
    "use_cache": True,
    "vocab_size": 49152,
}
LLAMA32 = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "vocab_size": 128256,
}


def read(document, **changes):
    return config_from_huggingface(document | changes)[1]


def refused(document, **changes):
    with pytest.raises(LessonsError) as caught:
        read(document, **changes)
    return caught.value.what


def test_published_configs_are_the_presets():  # SPEC G5
    assert read(SMOLLM2) == preset("smollm2-135m")
    llama = read(LLAMA32)
    scaling = RopeScaling("llama3", 32.0, 8192, beta_slow=1.0, beta_fast=4.0)
    assert llama.rope_scaling == scaling
    assert vars(llama) | {"rope_scaling": None} == vars(preset("llama3.2-1b")) | {
        "rope_scaling": None
    }
    gpt2 = read(GPT2, vocab_size=50257, n_positions=1024, n_embd=768, n_layer=12, n_head=12)
    assert vars(gpt2) | {"dropout": 0.1} == vars(preset("gpt2"))


def test_what_is_left_out_means_what_transformers_takes_it_to_mean():  # SPEC G5
    assert (read(LLAMA).norm_eps, read(LLAMA).tie_embeddings) == (1e-6, False)
    assert read(LLAMA).rope_theta == 10_000
    assert (read(GPT2).norm_eps, read(GPT2).tie_embeddings, read(GPT2).d_ff) == (1e-5, True, 192)
    assert read(MISTRAL).sliding_window == 4096
    assert (read(QWEN2).sliding_window, read(QWEN2).qkv_bias, read(QWEN2).bias) == (
        *(None, True),
        False,
    )
    assert (read(QWEN3).heads.head_dim, read(QWEN3).qk_norm) == (128, True)
    without = {word: value for word, value in LLAMA.items() if word != "num_key_value_heads"}
    assert read(without).heads.n_kv_heads == 6
    assert read(without | {"model_type": "mistral"}, num_attention_heads=24).heads.n_kv_heads == 8


@pytest.mark.parametrize("family", [QWEN2, QWEN3])
@pytest.mark.parametrize(
    ("words", "window"),
    [
        ({"sliding_window": 5}, None),  # not in use
        ({"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0}, 5),
        ({"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 3}, None),
        ({"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 28}, None),
        ({"use_sliding_window": True, "sliding_window": 5}, None),
        (
            {"use_sliding_window": True, "sliding_window": 5}
            | {"layer_types": ["sliding_attention"] * 3},
            5,
        ),
        ({"layer_types": ["full_attention"] * 3}, None),
    ],
)
def test_qwens_windows(family, words, window):  # SPEC G5
    assert read(family, **words).sliding_window == window


MIXED = ["full_attention", "sliding_attention", "full_attention"]
SLIDING = {"use_sliding_window": True, "sliding_window": 5}
REFUSED = {
    "unknown family": (LLAMA, {"model_type": "gemma2"}, "the architecture 'gemma2' is not one"),
    "no family": (LLAMA, {"model_type": None}, "the architecture 'None'"),
    "unknown word": (
        LLAMA,
        {"residual_multiplier": 0.2},
        "decoder may not have that: 'residual_multiplier' = 0.2: scaled activations",
    ),
    "experts": (LLAMA, {"num_local_experts": 8}, "'num_local_experts' = 8: a mixture of experts"),
    "softcapping": (LLAMA, {"final_logit_softcapping": 30.0}, "'final_logit_softcapping' = 30.0: "),
    "quantized": (
        LLAMA,
        {"quantization_config": {"bits": 4}},
        "'quantization_config' = {'bits': 4}: quantized weights",
    ),
    "part of a head": (LLAMA, {"partial_rotary_factor": 0.5}, "'partial_rotary_factor' = 0.5: "),
    "interleaved": (LLAMA, {"rope_interleaved": True}, "'rope_interleaved' = True: "),
    "unscaled": (GPT2, {"scale_attn_weights": False}, "'scale_attn_weights' = False: "),
    "by layer": (GPT2, {"scale_attn_by_inverse_layer_idx": True}, "by_inverse_layer_idx' = True: "),
    "cross": (GPT2, {"add_cross_attention": True}, "'add_cross_attention' = True: "),
    "exact gelu": (GPT2, {"activation_function": "gelu"}, "activation_function = 'gelu' is not"),
    "act": (LLAMA, {"hidden_act": "gelu"}, "hidden_act = 'gelu' is not silu or swish"),
    "some biases": (LLAMA, {"attention_bias": True}, "attention_bias = True with mlp_bias = False"),
    "other biases": (LLAMA, {"mlp_bias": True}, "attention_bias = False with mlp_bias = True"),
    "qwen3 biases": (QWEN3, {"attention_bias": True}, "biases in some layers only"),
    "llama window": (LLAMA, {"sliding_window": 5}, "sliding_window in a llama"),
    "mixed windows": (QWEN2, SLIDING | {"max_window_layers": 2}, "all blocks of ours are alike"),
    "mixed types": (QWEN3, SLIDING | {"layer_types": MIXED}, "all blocks of ours are alike"),
    "window without a window": (
        QWEN2,
        {"layer_types": ["sliding_attention"] * 3},
        "all blocks of ours are alike",
    ),
    "mistral's types": (MISTRAL, {"layer_types": MIXED}, "all blocks of ours are alike"),
    "short list": (QWEN2, {"layer_types": ["full_attention"]}, "layer_types is not a list"),
    "types no list": (QWEN2, {"layer_types": 3}, "layer_types is not a list"),
    "max_window": (QWEN2, SLIDING | {"max_window_layers": "2"}, "is no integer"),
    "text for a size": (LLAMA, {"hidden_size": "48"}, "d_model = '48' is not an integer"),
    "missing": (LLAMA, {"vocab_size": None}, "vocab_size = None is not an integer"),
    "tied is text": (LLAMA, {"tie_word_embeddings": "no"}, "tie_embeddings = 'no' is not true or"),
    "rope is a list": (LLAMA, {"rope_parameters": [1]}, "not a JSON object"),
    "longrope": (LLAMA, {"rope_scaling": {"type": "longrope"}}, "type 'longrope' is not in this"),
    "a dict of types": (
        LLAMA,
        {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}},
        "'full_attention' belongs to no scaling",
    ),
    "llama3 without": (
        LLAMA,
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        "llama3 needs low_freq_factor",
    ),
    "linear without": (LLAMA, {"rope_scaling": {"type": "linear"}}, "'factor'"),
    "mscale": (
        LLAMA,
        {"rope_scaling": {"type": "yarn", "factor": 8.0, "mscale": 0.7}},
        "'mscale' = 0.7 is not a part of yarn that is known",
    ),
    "untruncated": (
        LLAMA,
        {"rope_scaling": {"type": "yarn", "factor": 8.0, "truncate": False}},
        "'truncate' = False is not a part of yarn",
    ),
    "another length for dynamic": (
        LLAMA,
        {
            "rope_scaling": {
                "type": "dynamic",
                "factor": 2.0,
                "original_max_position_embeddings": 32,
            }
        },
        "'original_max_position_embeddings' = 32 is not a part of dynamic",
    ),
    "part in rope": (
        LLAMA,
        {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        "RoPE on a part of each head",
    ),
    "a list for a type": (LLAMA, {"rope_scaling": {"type": ["x"], "factor": 2}}, "type \"['x']\""),
}


@pytest.mark.parametrize(("document", "changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_the_decoder_lacks_is_named(document, changes, message):  # SPEC G5, S9
    read(document)  # fine without the changes
    assert message in refused(document, **changes)


def test_all_words_that_are_refused_are_named_at_once():  # SPEC S9
    words = {"num_experts": 4, "attn_logit_softcapping": 3.0, "temperature": 2.0, "frobnicate": 1}
    message = refused(LLAMA, **words)
    assert (
        "'num_experts' = 4: a mixture of experts; 'attn_logit_softcapping' = 3.0: capped" in message
    )
    assert "'frobnicate' = 1: it is not known what this means" in message
    assert "temperature" not in message


def test_a_word_that_is_off_asks_for_nothing():
    off = {"num_experts": None, "quantization_config": {}, "new_feature": False, "pruned_heads": {}}
    assert read(LLAMA, **off) == read(LLAMA)


def test_what_dynamic_scaling_grows_to():  # SPEC A3
    scaled = read(LLAMA, rope_scaling={"type": "dynamic", "factor": 4.0})
    assert scaled.rope_scaling == RopeScaling("dynamic", 4.0, 64)
    assert scaled.context_length == 256


@pytest.mark.parametrize(
    "scaling",
    [
        None,
        RopeScaling("linear", 2.0),
        RopeScaling("dynamic", 2.0, 32),
        RopeScaling("llama3", 8.0, 16, 0.5, 3.0),
        RopeScaling("yarn", 8.0, 16),
        RopeScaling("yarn", 8.0, 16, 0.5, 3.0, 1.2),
    ],
)
def test_rope_is_written_as_it_is_read(scaling):  # SPEC A3, G5
    config = ModelConfig(50, 64, 48, 3, 6, 40, rope_theta=700.0, rope_scaling=scaling)
    values = read_rope(write_rope(config), "here")
    assert values["rope_theta"] == 700.0
    assert values.get("rope_scaling") == scaling
