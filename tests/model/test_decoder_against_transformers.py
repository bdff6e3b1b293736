"""The whole model against transformers: one class of ours, many of theirs, the same logits."""

from dataclasses import replace

import pytest
import torch
import transformers

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.rope import to_interleaved_layout

LLAMA = {"norm": "rms", "ffn": "swiglu", "bias": False, "head_bias": False}
GPT2 = {"position": "learned", "ffn": "gelu", "head_bias": False, "tie_embeddings": True}
SIZES = {"vocab_size": 50, "context_length": 64, "d_model": 48, "n_layers": 3, "d_ff": 40}
BASE = ModelConfig(**SIZES, n_heads=6, n_kv_heads=2, **LLAMA)
BIASED = replace(BASE, bias=True, tie_embeddings=True)


def llama(config, **changes):
    """`config` in the words of a transformers config."""
    words = {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.heads.n_kv_heads,
        "head_dim": config.heads.head_dim,
        "intermediate_size": config.d_ff,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
    }
    return words | changes


def scaled(scaling, **words):
    """Our scaling, and the same in transformers' words."""
    config = replace(BASE, rope_scaling=scaling, rope_theta=500.0)
    parameters = {"rope_type": scaling.kind, "rope_theta": 500.0, "factor": scaling.factor, **words}
    # For "dynamic" the trained length is max_position_embeddings; the others name it.
    length = scaling.original_context_length or config.context_length
    if scaling.kind in ("llama3", "yarn"):
        parameters["original_max_position_embeddings"] = length
    changes = {"rope_parameters": parameters}
    if scaling.kind == "dynamic":
        changes["max_position_embeddings"] = length
    return config, transformers.LlamaConfig(**llama(config, **changes))


TRAINED = 16  # tokens; the texts of the tests have 64, four times as many
MODELS = {
    "llama, grouped heads": (BASE, transformers.LlamaConfig(**llama(BASE))),
    "llama, one kv head": (
        one := replace(BASE, n_kv_heads=1, norm_eps=1e-3),
        transformers.LlamaConfig(**llama(one)),
    ),
    "llama, all heads": (
        every := replace(BASE, n_kv_heads=None, rope_theta=200.0),
        transformers.LlamaConfig(**llama(every)),
    ),
    "llama, biases, tied": (
        BIASED,
        transformers.LlamaConfig(**llama(BIASED, attention_bias=True, mlp_bias=True)),
    ),
    "llama, heads of width 14": (
        wide := replace(BASE, head_dim=14),
        transformers.LlamaConfig(**llama(wide)),
    ),
    "llama, linear scaling": scaled(RopeScaling("linear", 4.0)),
    "llama, dynamic scaling": scaled(RopeScaling("dynamic", 4.0, TRAINED)),
    "llama, llama3 scaling": scaled(
        RopeScaling("llama3", 4.0, TRAINED, beta_slow=0.5, beta_fast=2.0),
        low_freq_factor=0.5,
        high_freq_factor=2.0,
    ),
    "llama, yarn": scaled(RopeScaling("yarn", 4.0, TRAINED)),
    "llama, yarn with its own numbers": scaled(
        RopeScaling("yarn", 4.0, TRAINED, beta_slow=0.2, beta_fast=2.0, attention_factor=1.3),
        beta_slow=0.2,
        beta_fast=2.0,
        attention_factor=1.3,
    ),
    "mistral, window of 5": (
        window := replace(BASE, sliding_window=5),
        transformers.MistralConfig(**llama(window, sliding_window=5)),
    ),
    "qwen2": (
        qwen2 := replace(BASE, qkv_bias=True, tie_embeddings=True),
        transformers.Qwen2Config(**{k: v for k, v in llama(qwen2).items() if k != "head_dim"}),
    ),
    "qwen3": (
        qwen3 := replace(BASE, qk_norm=True, head_dim=16, rope_theta=1_000_000.0),
        transformers.Qwen3Config(**llama(qwen3)),
    ),
    "gpt2": (
        gpt2 := ModelConfig(**{**SIZES, "d_ff": 96}, n_heads=6, **GPT2),
        transformers.GPT2Config(
            vocab_size=50,
            n_positions=64,
            n_embd=48,
            n_layer=3,
            n_head=6,
            n_inner=96,
            bos_token_id=0,
            eos_token_id=0,
        ),
    ),
    "gpt-neox": (
        neox := ModelConfig(**SIZES, n_heads=6, rope_theta=500.0),
        transformers.GPTNeoXConfig(
            vocab_size=50,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=6,
            intermediate_size=40,
            hidden_act="relu",
            max_position_embeddings=64,
            layer_norm_eps=1e-5,
            use_parallel_residual=False,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 500.0,
                "partial_rotary_factor": 1.0,
            },
        ),
    ),
}


def llama_weights(model):
    """Our tensors under the names of Llama, Mistral and Qwen."""
    ours, config = model.state_dict(), model.config
    n_queries, n_keys = (
        n * config.heads.head_dim for n in (config.n_heads, config.heads.n_kv_heads)
    )
    theirs = {
        "model.embed_tokens.weight": ours["embedding.weight"],
        "model.norm.weight": ours["final_norm.weight"],
        "lm_head.weight": ours["head.weight"],
    }
    names = {
        "attention_norm": "input_layernorm",
        "attention.q_norm": "self_attn.q_norm",
        "attention.k_norm": "self_attn.k_norm",
        "attention.out": "self_attn.o_proj",
        "feedforward_norm": "post_attention_layernorm",
        "feedforward.gate": "mlp.gate_proj",
        "feedforward.up": "mlp.up_proj",
        "feedforward.down": "mlp.down_proj",
    }
    for i in range(config.n_layers):
        for kind in ("weight", "bias"):
            for name, other in names.items():
                if f"blocks.{i}.{name}.{kind}" in ours:
                    theirs[f"model.layers.{i}.{other}.{kind}"] = ours[f"blocks.{i}.{name}.{kind}"]
            if f"blocks.{i}.attention.qkv.{kind}" in ours:
                parts = ours[f"blocks.{i}.attention.qkv.{kind}"].split([n_queries, n_keys, n_keys])
                for letter, part in zip("qkv", parts, strict=True):
                    theirs[f"model.layers.{i}.self_attn.{letter}_proj.{kind}"] = part
    return theirs


def gpt2_weights(model):
    """Our tensors under GPT-2's names; its matrices are transposed."""
    ours = model.state_dict()
    names = {
        "attention_norm": "ln_1",
        "attention.qkv": "attn.c_attn",
        "attention.out": "attn.c_proj",
        "feedforward_norm": "ln_2",
        "feedforward.up": "mlp.c_fc",
        "feedforward.down": "mlp.c_proj",
    }
    theirs = {
        "transformer.wte.weight": ours["embedding.weight"],
        "transformer.wpe.weight": ours["position_embedding.weight"],
        "lm_head.weight": ours["head.weight"],
    }
    for kind in ("weight", "bias"):
        theirs[f"transformer.ln_f.{kind}"] = ours[f"final_norm.{kind}"]
        for i in range(model.config.n_layers):
            for name, other in names.items():
                theirs[f"transformer.h.{i}.{other}.{kind}"] = ours[f"blocks.{i}.{name}.{kind}"].t()
    return theirs


def gpt_neox_weights(model):
    """Our tensors under GPT-NeoX's names. Its fused rows are q, k, v of head 0, of head 1, …"""
    ours = model.state_dict()
    names = {
        "attention_norm": "input_layernorm",
        "attention.qkv": "attention.query_key_value",
        "attention.out": "attention.dense",
        "feedforward_norm": "post_attention_layernorm",
        "feedforward.up": "mlp.dense_h_to_4h",
        "feedforward.down": "mlp.dense_4h_to_h",
    }
    theirs = {
        "gpt_neox.embed_in.weight": ours["embedding.weight"],
        "gpt_neox.final_layer_norm.weight": ours["final_norm.weight"],
        "gpt_neox.final_layer_norm.bias": ours["final_norm.bias"],
        "lm_head.weight": ours["head.weight"],
    }
    for i in range(model.config.n_layers):
        for name, other in names.items():
            for kind in ("weight", "bias"):
                tensor = ours[f"blocks.{i}.{name}.{kind}"]
                if name == "attention.qkv":
                    by_part = tensor.unflatten(0, (3, model.config.n_heads, -1))
                    tensor = by_part.transpose(0, 1).flatten(0, 2)
                theirs[f"gpt_neox.layers.{i}.{other}.{kind}"] = tensor
    return theirs


WEIGHTS = {"gpt2": gpt2_weights, "gpt_neox": gpt_neox_weights}


def random_decoder(config):
    """Numbers of the size that trained models have, norms and biases included."""
    torch.manual_seed(0)
    model = Decoder(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(mean=1.0 if name.endswith("norm.weight") else 0.0, std=0.2)
    return model


def their_model(config, model):
    other = transformers.AutoModelForCausalLM.from_config(config).eval()
    other.load_state_dict(WEIGHTS.get(config.model_type, llama_weights)(model), strict=True)
    return other


@torch.no_grad()
def largest_difference(config, their_config):
    """max |ours - theirs| over the logits of two texts of 64 tokens, and the size of logits."""
    model = random_decoder(config)
    tokens = torch.randint(config.vocab_size, (2, 64))
    ours, theirs = model(tokens), their_model(their_config, model)(tokens).logits
    if config.head_bias:  # theirs has none
        theirs = theirs + model.head.bias
    return (ours - theirs).abs().max().item(), theirs.std().item()


@pytest.mark.parametrize(("config", "their_config"), MODELS.values(), ids=MODELS)
def test_logits_equal_those_of_transformers(config, their_config):  # SPEC G5, A3, E1
    difference, size = largest_difference(config, their_config)
    assert size > 0.5  # logits that are all near zero would agree whatever the model does
    assert difference < 5e-5


WITHOUT = {
    "llama, one kv head": {"norm_eps": 1e-5},
    "llama, all heads": {"rope_theta": 10_000.0},
    "llama, linear scaling": {"rope_scaling": None},
    "llama, dynamic scaling": {"rope_scaling": None},
    "llama, llama3 scaling": {"rope_scaling": None},
    "llama, yarn": {"rope_scaling": None},
    "llama, yarn with its own numbers": {"rope_scaling": RopeScaling("yarn", 4.0, TRAINED)},
    "mistral, window of 5": {"sliding_window": 6},
    "qwen3": {"rope_theta": 10_000.0},
    "gpt2": {"ffn": "relu"},
    "gpt-neox": {"ffn": "gelu"},
}


@pytest.mark.parametrize(("name", "change"), WITHOUT.items())
def test_the_difference_shows_when_an_option_is_wrong(name, change):
    """The bound of the test above is not so wide that an ignored option would pass."""
    config, their_config = MODELS[name]
    model = random_decoder(config)
    other = Decoder(replace(config, **change)).eval()
    other.load_state_dict(model.state_dict())
    tokens = torch.randint(config.vocab_size, (2, 64))
    with torch.no_grad():
        theirs = their_model(their_config, model)(tokens).logits
        assert (other(tokens) - theirs).abs().max().item() > 1e-3


def test_interleaved_weights_are_not_llamas():  # SPEC A3
    """The layout matters: rows of q and k in the interleaved order give other logits."""
    model = random_decoder(BASE)
    other = their_model(transformers.LlamaConfig(**llama(BASE)), model)
    tokens = torch.randint(BASE.vocab_size, (2, 64))
    with torch.no_grad():
        right = other(tokens).logits
        for block in model.blocks:
            rows = block.attention.qkv.weight[:48]
            rows.copy_(to_interleaved_layout(rows, n_heads=6, dim=0))
        assert (model(tokens) - right).abs().max().item() > 1e-2
