"""Published models: their config.json as it is but for the sizes, with weights by transformers."""

import json

import pytest
import transformers

from transformer_lessons.weights.pretrained import load_pretrained

from .test_huggingface import difference, save

SMALL = {"vocab_size": 50, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6}
SMALL |= {"intermediate_size": 40, "max_position_embeddings": 64}
SMALL_GPT2 = {"vocab_size": 50, "n_positions": 64, "n_embd": 48, "n_layer": 3, "n_head": 6}
# fmt: off
GPT2 = {
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
    "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12,
    "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": None,
    "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
    "summary_use_proj": True, "vocab_size": 50257,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}
GPT2_LARGER = GPT2 | {"n_special": 0, "predict_special_tokens": True}
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "initializer_range": 0.02, "model_type": "llama",
    "num_key_value_heads": 6, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
    "tie_word_embeddings": False, "torch_dtype": "float16", "use_cache": True,
    "transformers_version": "4.31.0.dev0",
}
LLAMA3 = LLAMA | {
    "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False, "rope_theta": 500000.0,
    "num_key_value_heads": 2, "bos_token_id": 128000, "eos_token_id": 128001,
}
SCALED = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "initializer_range": 0.02, "model_type": "mistral",
    "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 8,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True,
    "transformers_version": "4.34.0.dev0",
}
QWEN = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151645, "hidden_act": "silu", "initializer_range": 0.02,
    "max_window_layers": 21, "model_type": "qwen2", "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "transformers_version": "4.43.1", "use_cache": True,
    "use_sliding_window": False,
}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16, "type": "yarn", "finetuned": True}
PUBLISHED = {
    "gpt2": GPT2,
    "gpt2-medium": GPT2_LARGER,
    "gpt2-large": GPT2_LARGER,
    "gpt2-xl": GPT2_LARGER | {"output_past": True},
    "distilgpt2": GPT2 | {
        "_num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0},
    },
    "llama-7b": LLAMA | {"max_sequence_length": 2048, "pad_token_id": -1, "rms_norm_eps": 1e-06},
    "Llama-2-7b": LLAMA | {"_name_or_path": "meta-llama/Llama-2-7b-hf"},
    "Yarn-Llama-2": LLAMA | {"rope_scaling": YARN},
    "TinyLlama-1.1B": LLAMA | {"num_key_value_heads": 2, "attention_bias": False},
    "Meta-Llama-3-8B": LLAMA3,
    "Llama-3.1-8B-Instruct": LLAMA3 | {
        "eos_token_id": [128001, 128008, 128009], "rope_scaling": SCALED,
    },
    "Llama-3.2-1B": LLAMA3 | {"head_dim": 8, "rope_scaling": SCALED, "tie_word_embeddings": True},
    "DeepSeek-R1-Distill-Llama": LLAMA3 | {"rope_scaling": SCALED},
    "SmolLM2-135M": LLAMA3 | {
        "is_llama_config": True, "rope_interleaved": False, "rope_theta": 100000,
        "tie_word_embeddings": True, "pad_token_id": 2, "transformers.js_config": {"dtype": "q4"},
    },
    "Falcon3": LLAMA3 | {"activation": "swiglu", "head_dim": 10},
    "Mistral-7B-v0.1": MISTRAL,
    "Mistral-7B-v0.3": MISTRAL | {"sliding_window": None, "rope_theta": 1e6, "head_dim": 8},
    "Qwen2.5-0.5B": QWEN,
    "Qwen2.5-7B-Instruct": QWEN | {"tie_word_embeddings": False, "rms_norm_eps": 1e-05},
    "DeepSeek-R1-Distill-Qwen": QWEN | {
        "use_mrope": False, "tie_word_embeddings": False, "rope_theta": 10000,
    },
    "Qwen3-0.6B": QWEN | {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "head_dim": 16,
        "model_type": "qwen3", "rope_scaling": None, "sliding_window": None,
    },
}
OLD_FILES_HAVE = {  # words that transformers once wrote into any config
    "gradient_checkpointing": True, "num_labels": 2, "tokenizer_class": "AutoTokenizer",
    "do_sample": True, "temperature": 0.6, "max_length": 4096, "_commit_hash": "0123",
    "_attn_implementation_autoset": True, "sep_token_id": 7, "top_p": 0.9,
}
# fmt: on


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_gives_the_logits_of_transformers(name, tmp_path):  # SPEC G5, G17
    document = PUBLISHED[name] | OLD_FILES_HAVE
    document |= SMALL_GPT2 if document["model_type"] == "gpt2" else SMALL
    theirs = save(transformers.AutoConfig.for_model(**document), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(document))
    assert difference(load_pretrained(tmp_path)[0], theirs) < 5e-5
