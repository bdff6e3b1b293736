"""Hugging Face's `config.json` as a `ModelConfig`.

Everything in the file is looked at: what would change the model's numbers and is not known here
raises `LessonsError` and is named.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from transformer_lessons.config import ModelConfig, config_from_dict
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import field
from transformer_lessons.support.huggingface_rope import read_rope
from transformer_lessons.support.safetensors_files import read_json_file

LARGEST_CONFIG = 2**20  # bytes

# fmt: off
LLAMA_WORDS = {
    "vocab_size": "vocab_size", "max_position_embeddings": "context_length",
    "hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads", "head_dim": "head_dim", "intermediate_size": "d_ff",
    "rms_norm_eps": "norm_eps", "tie_word_embeddings": "tie_embeddings",
}
GPT2_WORDS = {
    "vocab_size": "vocab_size", "n_positions": "context_length", "n_embd": "d_model",
    "n_layer": "n_layers", "n_head": "n_heads", "n_inner": "d_ff",
    "layer_norm_epsilon": "norm_eps", "tie_word_embeddings": "tie_embeddings",
}
# What a file means that leaves a word out: transformers 5.23, configuration_*.py.
LLAMA: dict[str, Any] = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False, "hidden_act": "silu"}
DEFAULTS: dict[str, dict[str, Any]] = {
    "gpt2": {"layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, "n_inner": None,
             "activation_function": "gelu_new"},
    "llama": LLAMA,
    "mistral": LLAMA | {"num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": LLAMA | {"num_key_value_heads": 32, "sliding_window": 4096},
    "qwen3": LLAMA | {"num_key_value_heads": 32, "sliding_window": 4096, "head_dim": 128},
}
ACTIVATIONS = {"silu": "swiglu", "swish": "swiglu"}
GPT2_ACTIVATIONS = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "relu": "relu"}
READ = {  # words that are read by name below
    "model_type", "rope_parameters", "rope_scaling", "rope_theta", "hidden_act", "layer_types",
    "sliding_window", "use_sliding_window", "max_window_layers", "attention_bias", "mlp_bias",
    "activation_function",
}
# Words that say nothing about the numbers a model computes: about training, saving, generating.
HARMLESS = """
    architectures auto_map dtype torch_dtype transformers_version use_cache _name_or_path
    bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id decoder_start_token_id
    forced_bos_token_id forced_eos_token_id initializer_range attention_dropout attn_pdrop
    embd_pdrop resid_pdrop hidden_dropout classifier_dropout summary_activation
    summary_first_dropout summary_proj_to_labels summary_type summary_use_proj
    reorder_and_upcast_attn
    task_specific_params n_ctx n_special predict_special_tokens output_past max_sequence_length
    pretraining_tp return_dict return_dict_in_generate is_llama_config transformers.js_config
    _attn_implementation _attn_implementation_autoset attn_implementation _commit_hash id2label
    label2id num_labels _num_labels finetuning_task problem_type unsloth_version unsloth_fixed
    is_decoder chunk_size_feed_forward gradient_checkpointing tokenizer_class model_max_length
    activation output_attentions output_hidden_states output_scores torchscript use_bfloat16
    tf_legacy_loss remove_invalid_values prefix suppress_tokens begin_suppress_tokens bad_words_ids
    do_sample temperature top_k top_p typical_p max_length min_length max_new_tokens num_beams
    num_beam_groups diversity_penalty early_stopping length_penalty repetition_penalty
    no_repeat_ngram_size encoder_no_repeat_ngram_size num_return_sequences
    exponential_decay_length_penalty keys_to_ignore_at_inference tie_encoder_decoder
"""
# Features that the decoder doesn't have, by a part of the words that ask for them.
FEATURES = {
    "expert": "a mixture of experts", "moe": "a mixture of experts", "softcap": "capped logits",
    "quantization": "quantized weights (those of GGUF files can be read)",
    "cross": "cross-attention", "encoder": "an encoder",
    "partial_rotary": "RoPE on a part of each head",
    "interleaved": "RoPE that turns neighbours", "scale_attn": "another scale of the scores",
    "multiplier": "scaled activations", "alibi": "ALiBi", "vision": "images", "mrope": "images",
    "lora": "low-rank queries and keys",
}
# fmt: on


def read_config(folder: Path) -> tuple[str, ModelConfig]:
    """The family ("llama", say) and the config in the `config.json` of `folder`."""
    document = read_json_file(folder, "config.json", LARGEST_CONFIG)
    return config_from_huggingface(document, str(folder / "config.json"))


def read_eos_ids(folder: Path, vocab_size: int) -> list[int]:
    """The ids with which a text ends, as `config.json` and `generation_config.json` say."""
    found: list[int] = []
    for name in ("config.json", "generation_config.json"):
        if (folder / name).exists():
            document = read_json_file(folder, name, LARGEST_CONFIG)
            ids = field(document, "eos_token_id", int | list[int] | None, str(folder / name))
            found += ids if isinstance(ids, list) else [-1 if ids is None else ids]
    return [id for id in found if 0 <= id < vocab_size]  # others are no tokens of this model


def config_from_huggingface(
    document: dict[str, Any], where: str = "config.json"
) -> tuple[str, ModelConfig]:
    """The family and the `ModelConfig` that a `config.json` means.

    Dropout is a choice of training and is left at 0.

    >>> sizes = {"vocab_size": 50, "n_positions": 8, "n_embd": 4, "n_layer": 1, "n_head": 2}
    >>> config_from_huggingface({"model_type": "gpt2", **sizes})[1].d_ff
    16
    """
    family = document.get("model_type")
    if not isinstance(family, str) or family not in DEFAULTS:
        what = f"the architecture {str(family)[:40]!r} is not one that can be read"
        raise LessonsError(what, where=where, remedy=f"Known: {', '.join(DEFAULTS)}.")
    words = GPT2_WORDS if family == "gpt2" else LLAMA_WORDS
    _check_words(document, words, where)
    document = DEFAULTS[family] | document
    values = {ours: document[theirs] for theirs, ours in words.items() if theirs in document}
    if family == "gpt2":
        values |= {"position": "learned", "norm": "layer", "bias": True, "head_bias": False}
        values["ffn"] = _activation(document, "activation_function", GPT2_ACTIVATIONS, where)
        if values["d_ff"] is None and type(values.get("d_model")) is int:
            values["d_ff"] = 4 * values["d_model"]
    else:
        values |= {"position": "rope", "norm": "rms", "bias": False, "head_bias": False}
        values["qk_norm"] = family == "qwen3"
        values["ffn"] = _activation(document, "hidden_act", ACTIVATIONS, where)
        values |= _biases(document, family, where)
        values["sliding_window"] = _window(document, family, where)
        values |= read_rope(document, f"{where}, RoPE")
    return family, plainest(config_from_dict(ModelConfig, values, where))


def plainest(config: ModelConfig) -> ModelConfig:
    """The same model with None for the numbers of heads and the width that follow from others."""
    _, n_kv_heads, head_dim = config.heads
    if n_kv_heads == config.n_heads:
        config = replace(config, n_kv_heads=None)
    if head_dim * config.n_heads == config.d_model:
        config = replace(config, head_dim=None)
    return config


def _check_words(document: dict[str, Any], words: dict[str, str], where: str) -> None:
    """Raise `LessonsError` for all words that may change the model; null or false can't."""
    harmless, refused = HARMLESS.split(), []
    for word, value in document.items():
        is_known = word in words or word in READ or word in harmless
        is_off = value in (None, False, [], {})
        if word in ("partial_rotary_factor", "scale_attn_weights"):  # what is off is 1 here
            is_known, is_off = False, value in (None, True, 1)
        if not is_known and not is_off:
            features = (feature for part, feature in FEATURES.items() if part in word)
            feature = next(features, "it is not known what this means")
            refused.append(f"{word[:40]!r} = {str(value)[:40]}: {feature}")
    if refused:
        what = f"the book's decoder may not have that: {'; '.join(refused[:20])}"
        remedy = "What doesn't change the numbers that the model computes, remove from the file."
        raise LessonsError(what, where=where, remedy=remedy)


def _activation(document: dict[str, Any], word: str, known: dict[str, str], where: str) -> str:
    """Our name of the function in the feed-forward layer."""
    if (value := str(document[word])[:40]) not in known:
        raise LessonsError(f"{word} = {value!r} is not {' or '.join(known)}", where=where)
    return known[value]


def _biases(document: dict[str, Any], family: str, where: str) -> dict[str, bool]:
    """Which linear layers have a bias: none, all of a block, or Qwen2's q, k and v."""
    if family == "qwen2":
        return {"qkv_bias": True}
    attention, mlp = document.get("attention_bias", False), document.get("mlp_bias", False)
    if attention != mlp or (attention and family != "llama"):
        what = f"attention_bias = {attention!r} with mlp_bias = {mlp!r}: biases in some layers only"
        raise LessonsError(what, where=where)
    return {"bias": attention}


def _window(document: dict[str, Any], family: str, where: str) -> int | None:
    """How many tokens one looks at; None for all. Blocks that differ in it raise `LessonsError`."""
    window, first, n_layers = document.get("sliding_window"), 0, document.get("num_hidden_layers")
    if family.startswith("qwen"):
        window = window if document.get("use_sliding_window", False) else None
        first = document.get("max_window_layers", 28)  # blocks before this one look at all
    if family == "llama" and window is not None:
        raise LessonsError("sliding_window in a llama, which has none", where=where)
    if type(n_layers) is not int or type(first) is not int:
        raise LessonsError("num_hidden_layers or max_window_layers is no integer", where=where)
    kinds = {"full_attention"} if window is None or first >= n_layers else {"sliding_attention"}
    if window is not None and 0 < first < n_layers:
        kinds = {"full_attention", "sliding_attention"}
    if (types := document.get("layer_types")) is not None:
        is_list = isinstance(types, list) and len(types) == n_layers
        if not is_list or not all(isinstance(kind, str) for kind in types):
            raise LessonsError("layer_types is not a list with a name a block", where=where)
        kinds = set(types) if family.startswith("qwen") else kinds | set(types)
    if kinds == {"full_attention"}:
        return None
    if kinds == {"sliding_attention"} and window is not None:
        return window
    what = f"layers of the kinds {', '.join(sorted(kinds))[:80]}: all blocks of ours are alike"
    raise LessonsError(what, where=where)
