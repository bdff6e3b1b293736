"""The same model, with the same weights, as each program has it. Imports are inside the functions.

`weights` have the names of the book's `Decoder`, and nothing for the head, for embedding and head
share one matrix everywhere.
"""

from typing import Any

from torch import Tensor, nn

from benchmarks.training_model import Shape, in_words_of

Weights = dict[str, Tensor]


def our_model(shape: Shape, weights: Weights, attention: str = "attend") -> Any:
    """The book's `Decoder`, which attends with the function of that name."""
    from transformer_lessons.config import ModelConfig
    from transformer_lessons.model import attention as functions
    from transformer_lessons.model.decoder import Decoder

    of_kind = {
        "gpt": {"position": "learned", "norm": "layer", "ffn": "gelu", "bias": True},
        "llama": {"position": "rope", "norm": "rms", "ffn": "swiglu", "bias": False},
    }
    config = ModelConfig(
        vocab_size=shape.vocab_size,
        context_length=shape.context_length,
        d_model=shape.d_model,
        n_layers=shape.n_layers,
        n_heads=shape.n_heads,
        d_ff=shape.d_ff,
        head_bias=False,
        tie_embeddings=True,
        **of_kind[shape.kind],
    )
    model = Decoder(config, getattr(functions, attention))
    model.load_state_dict(weights | {"head.weight": weights["embedding.weight"]})
    return model


def huggingface_model(shape: Shape, weights: Weights, attention: str = "sdpa") -> nn.Module:
    """`GPT2LMHeadModel` or `LlamaForCausalLM` of transformers, without tokens that end a text."""
    import transformers

    no_ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if shape.kind == "gpt":
        config = transformers.GPT2Config(
            vocab_size=shape.vocab_size,
            n_positions=shape.context_length,
            n_embd=shape.d_model,
            n_layer=shape.n_layers,
            n_head=shape.n_heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **no_ends,
        )
        kind, words, table = transformers.GPT2LMHeadModel, "gpt2", "transformer.wte.weight"
    else:
        config = transformers.LlamaConfig(
            vocab_size=shape.vocab_size,
            max_position_embeddings=shape.context_length,
            hidden_size=shape.d_model,
            intermediate_size=shape.d_ff,
            num_hidden_layers=shape.n_layers,
            num_attention_heads=shape.n_heads,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            **no_ends,
        )
        kind, words, table = transformers.LlamaForCausalLM, "llama", "model.embed_tokens.weight"
    config._attn_implementation = attention
    model, weights = kind(config), in_words_of(words, weights)
    model.load_state_dict(weights | {"lm_head.weight": weights[table]})
    return model


def litgpt_model(shape: Shape, weights: Weights) -> Any:
    """LitGPT's `GPT`, configured as a Llama; in an environment of its own."""
    from litgpt import GPT, Config

    config = Config(
        block_size=shape.context_length,
        vocab_size=shape.vocab_size,
        padded_vocab_size=shape.vocab_size,
        n_layer=shape.n_layers,
        n_embd=shape.d_model,
        n_head=shape.n_heads,
        intermediate_size=shape.d_ff,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    model = GPT(config)
    model.lm_head.weight = model.transformer.wte.weight
    weights = in_words_of("litgpt", weights)
    model.load_state_dict(weights | {"lm_head.weight": weights["transformer.wte.weight"]})
    return model
