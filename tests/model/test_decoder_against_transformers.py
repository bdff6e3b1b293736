"""The whole model against transformers: its GPT-NeoX can be set to the same architecture."""

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.decoder import Decoder


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


def test_equals_gpt_neox_of_transformers():  # SPEC G3
    config = ModelConfig(50, 24, d_model=24, n_layers=3, n_heads=3, d_ff=40, rope_base=500.0)
    other = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=50,
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=3,
            intermediate_size=40,
            hidden_act="relu",
            max_position_embeddings=24,
            layer_norm_eps=1e-5,
            use_parallel_residual=False,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 500.0,
                "partial_rotary_factor": 1.0,
            },
        )
    ).eval()
    torch.manual_seed(0)
    model = Decoder(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    other.load_state_dict(gpt_neox_weights(model), strict=True)
    tokens = torch.randint(50, (2, 24))
    with torch.no_grad():
        expected = other(tokens).logits + model.head.bias  # GPT-NeoX's head has no bias
        torch.testing.assert_close(model(tokens), expected, rtol=0, atol=5e-5)
