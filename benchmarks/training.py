"""The training step: what each contestant does. Every function here returns a `Work`.

A run is a few steps from the same weights on the same batches: take a batch, forward, backward,
clip the gradients to length 1, AdamW with decay for the matrices. The description holds the loss
and the gradient's length of every step. Imports are inside the functions: a process loads only the
program that it measures.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.training_model import batches_of, in_words_of, shape_of, starting_weights
from benchmarks.worker import Work

LEARNING_RATE, WEIGHT_DECAY, BETAS, CLIP = 1e-3, 0.1, (0.9, 0.95), 1.0
TOLERANCE = {"fp32": 1e-4, "bf16": 1e-2}  # relative: how far figures of the same work are apart


def same_steps(expected: list[float], found: list[float], tolerance: float) -> bool:
    """Whether all losses and lengths agree to a share of `tolerance`.

    >>> same_steps([8.0, 1.0], [8.001, 1.0], 1e-3), same_steps([8.0, 1.0], [8.0, 1.1], 1e-3)
    (True, False)
    """
    pairs = zip(expected, found, strict=True)
    return all(abs(a - b) <= tolerance * abs(a) for a, b in pairs)


def ours(
    size: str,
    kind: str,
    precision: str,
    compiled: bool,
    n_steps: int,
    attention: str = "attend",
    loss_rows: int | None = None,
) -> Work:
    """`Decoder` and `Trainer.step`, as `fit` calls it."""
    from transformer_lessons.config import ModelConfig
    from transformer_lessons.model import attention as functions
    from transformer_lessons.model.decoder import Decoder
    from transformer_lessons.training.config import TrainConfig
    from transformer_lessons.training.trainer import Trainer

    shape = shape_of(size, kind)
    of_kind = {
        "gpt": {"position": "learned", "norm": "layer", "ffn": "gelu", "bias": True},
        "llama": {"position": "rope", "norm": "rms", "ffn": "swiglu", "bias": False},
    }
    model_config = ModelConfig(
        *(shape.vocab_size, shape.context_length, shape.d_model, shape.n_layers, shape.n_heads),
        **{"d_ff": shape.d_ff, "head_bias": False, "tie_embeddings": True, **of_kind[kind]},
    )
    config = TrainConfig(
        **{"steps": 2**30, "schedule": "constant", "learning_rate": LEARNING_RATE},
        **{"weight_decay": WEIGHT_DECAY, "beta1": BETAS[0], "beta2": BETAS[1], "clip_norm": CLIP},
        **{"precision": precision, "compile": compiled, "fused": True, "loss_rows": loss_rows},
    )
    model = Decoder(model_config, getattr(functions, attention))
    weights = starting_weights(shape)
    weights["head.weight"] = weights["embedding.weight"]
    trainer = Trainer(model.train(), config, batches_of(shape))

    def run() -> list[float]:
        batches = batches_of(shape)
        reports = [trainer.step(batches) for _ in range(n_steps)]
        return [figure for report in reports for figure in (report.loss, report.grad_norm)]

    return Work(run, list, lambda: start_again(model, weights, trainer.optimizers[0]))


def start_again(
    model: nn.Module, weights: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """The weights of the beginning, and the optimizer's memory empty."""
    model.load_state_dict(weights)
    for state in optimizer.state.values():
        for tensor in state.values():
            tensor.zero_()


def peer(
    model: nn.Module,
    logits_of: Callable[[Tensor], Tensor],
    weights: dict[str, Tensor],
    size: str,
    kind: str,
    precision: str,
    compiled: bool,
    n_steps: int,
) -> Work:
    """A step as nanoGPT's loop takes it, with PyTorch's own loss, clipping and fused AdamW.

    The loss is compiled together with the model.
    """
    model.train()
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, fused=True)

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits_of(inputs).flatten(0, 1), targets.flatten())

    compute_loss = torch.compile(loss_of) if compiled else loss_of
    is_narrow = precision == "bf16"
    narrow = torch.autocast("cpu", torch.bfloat16) if is_narrow else contextlib.nullcontext()

    def run() -> list[float]:
        batches, figures = batches_of(shape_of(size, kind)), []
        for _ in range(n_steps):
            inputs, targets = next(batches)
            optimizer.zero_grad()
            with narrow:
                loss = compute_loss(inputs, targets)
            loss.backward()
            length = nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            figures += [loss.item(), length.item()]
        return figures

    return Work(run, list, lambda: start_again(model, weights, optimizer))


def huggingface(size: str, kind: str, attention: str = "sdpa", **how: Any) -> Work:
    """`GPT2LMHeadModel` (in place of nanoGPT, the same architecture) or `LlamaForCausalLM`."""
    import transformers

    shape = shape_of(size, kind)
    no_ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if kind == "gpt":
        config = transformers.GPT2Config(
            vocab_size=shape.vocab_size,
            n_positions=shape.context_length,
            **{"n_embd": shape.d_model, "n_layer": shape.n_layers, "n_head": shape.n_heads},
            **{"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, **no_ends},
        )
        config._attn_implementation = attention
        model, words = transformers.GPT2LMHeadModel(config), "gpt2"
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
        config._attn_implementation = attention
        model, words = transformers.LlamaForCausalLM(config), "llama"
    weights = in_words_of(words, starting_weights(shape))
    table = "transformer.wte.weight" if kind == "gpt" else "model.embed_tokens.weight"
    weights["lm_head.weight"] = weights[table]

    def logits_of(inputs: Tensor) -> Tensor:
        return model(input_ids=inputs, use_cache=False).logits

    return peer(model, logits_of, weights, size, kind, **how)


def litgpt(size: str, kind: str, **how: Any) -> Work:
    """LitGPT's `GPT`, configured as a Llama; in an environment of its own."""
    from litgpt import GPT, Config

    shape = shape_of(size, kind)
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
    weights = in_words_of("litgpt", starting_weights(shape))
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    return peer(model, model, weights, size, kind, **how)
