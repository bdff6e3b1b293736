"""The exercises of lesson 10: initial weights, shared tensors, and what a model costs.

Shapes: T tokens, V different tokens, D numbers per token.
"""

import math

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _block_parameters(d_model: int, n_heads: int, n_kv_heads: int, d_ff: int) -> int:
    """Parameters of a Llama block: no biases, shared keys and values, SwiGLU, two RMS norms."""
    d_keys = n_kv_heads * (d_model // n_heads)
    attention = d_model * (d_model + 2 * d_keys) + d_model * d_model
    return attention + 3 * d_model * d_ff + 2 * d_model


BLOCK_PARAMETERS = Exercise(
    id="10.block_parameters",
    cases=((2, 1, 1, 3), (4, 2, 1, 5), (64, 8, 2, 172), (2048, 32, 8, 8192)),
    reference=_block_parameters,
    wrong_answers=(
        WrongAnswer(
            lambda d, h, k, f: 4 * d * d + 3 * d * f + 2 * d,
            "Keys and values are counted as wide as queries: they have n_kv_heads heads only.",
        ),
        WrongAnswer(
            lambda d, h, k, f: _block_parameters(d, h, k, f) - d * d,
            "A matrix of attention is missing: its heads are mixed again before they are added.",
        ),
        WrongAnswer(
            lambda d, h, k, f: _block_parameters(d, h, k, f) - d * f,
            "SwiGLU has three matrices, not two: gate, up and down.",
        ),
        WrongAnswer(
            lambda d, h, k, f: _block_parameters(d, h, k, f) - 2 * d,
            "The norms are missing: each has a weight for every one of the d_model numbers.",
        ),
        WrongAnswer(
            lambda d, h, k, f: _block_parameters(d, h, k, f) - d,
            "One norm is missing: attention and the feed-forward layer have one each.",
        ),
        WrongAnswer(
            lambda d, h, k, f: _block_parameters(d, h, k, f) + 2 * d,
            "These are layer norms: an RMS norm has a weight, and no bias.",
        ),
    ),
    hints=(
        "List the tensors of one block with their shapes. There are nine if q, k and v are three.",
        "A head is d_model / n_heads wide; all key heads together are n_kv_heads times that.",
    ),
)


def _residual_std(std: float, n_layers: int) -> float:
    """The starting standard deviation of the matrices that add to the residual stream."""
    return std / math.sqrt(2 * n_layers)


RESIDUAL_STD = Exercise(
    id="10.residual_std",
    cases=((1.0, 1), (1.0, 2), (0.02, 12), (0.02, 48)),
    reference=_residual_std,
    wrong_answers=(
        WrongAnswer(
            lambda std, n: std / math.sqrt(n),
            "Each block is counted as one addition: attention adds, and feed-forward adds too.",
        ),
        WrongAnswer(
            lambda std, n: std / (2 * n),
            "The root is missing: variances add up, and the size of a sum is the root of that.",
        ),
        WrongAnswer(
            lambda std, n: std * math.sqrt(2 * n),
            "This grows with depth: the terms have to shrink, so that their sum does not grow.",
        ),
        WrongAnswer(
            lambda std, n: std,
            "The depth makes no difference here: a sum of more terms is larger.",
        ),
    ),
    hints=(
        "How many terms are added to the embedding on the way through n_layers blocks?",
        "The variance of a sum of m independent terms is m times that of one term.",
    ),
)


def _first_loss(vocab_size: int, own_logit: float) -> float:
    """The loss in nats when every logit is 0 but one, and the target is one of the others."""
    largest = max(own_logit, 0.0)
    others = (vocab_size - 1) * math.exp(-largest)
    return largest + math.log(others + math.exp(own_logit - largest))


def _first_loss_sum(vocab_size: int, own_logit: float) -> float:
    return math.log(vocab_size - 1 + math.exp(own_logit))


FIRST_LOSS = Exercise(
    id="10.first_loss",
    cases=((2, 0.0), (256, 0.0), (256, 1.0), (85, 8.0), (50_257, 2.0), (85, 1000.0)),
    reference=_first_loss,
    wrong_answers=(
        WrongAnswer(
            lambda v, z: math.log(v),
            "The large logit is left out: it takes probability from the token that follows.",
        ),
        WrongAnswer(
            lambda v, z: _first_loss(v, z) - z,
            "This is the loss if the token with the large logit follows: here another one does.",
        ),
        WrongAnswer(
            lambda v, z: _first_loss(v + 1, z),
            "The large logit is counted in addition: only vocab_size - 1 tokens have a logit of 0.",
        ),
        WrongAnswer(
            lambda v, z: math.log(v) + z,
            "A logit is added to a logarithm of counts: first e^logit, then the sum, then ln.",
        ),
        WrongAnswer(
            lambda v, z: _first_loss(v, z) / math.log(2),
            "This loss is in bits: in nats, the logarithm is the natural one.",
        ),
        WrongAnswer(
            lambda v, z: _first_loss_sum(v, z) if z < 700 else math.inf,
            "exp of a large logit overflows: take the largest logit out of the logarithm first.",
        ),
    ),
    hints=(
        "The loss is -ln of the softmax at the target. What is the target's own logit?",
        "What is left is the logarithm of a sum of exponentials: how many of them are exp(0)?",
        "For a large z, ln(a + e^z) = z + ln(a e^-z + 1), in which nothing overflows.",
    ),
)


def _tied_gradient(tokens: Tensor, row_grads: Tensor, x: Tensor, logit_grads: Tensor) -> Tensor:
    """The gradient (V, D) of one table that is both the embedding and the head.

    tokens (T,) were looked up; row_grads (T, D) is the gradient of the rows that came out; x (T, D)
    went into the head; logit_grads (T, V) is the gradient of its logits x @ table.T.
    """
    head = logit_grads.T @ x
    return head.index_add(0, tokens, row_grads)


def _overwriting(tokens: Tensor, row_grads: Tensor, x: Tensor, logit_grads: Tensor) -> Tensor:
    lookup = torch.zeros(logit_grads.shape[1], x.shape[1])
    for token, row in zip(tokens.tolist(), row_grads, strict=True):
        lookup[token] = row
    return lookup + logit_grads.T @ x


def _lookup_only(tokens: Tensor, row_grads: Tensor, x: Tensor, logit_grads: Tensor) -> Tensor:
    return _tied_gradient(tokens, row_grads, x, torch.zeros_like(logit_grads))


_GRADS = torch.tensor([[0.25, -0.75, 0.5], [1.0, -1.5, 0.5], [-0.5, 0.25, 0.25]])
_ROWS, _X = torch.tensor([[1.0, 2], [3, 5], [8, 13]]), torch.tensor([[2.0, -1], [0, 4], [3, 1]])

TIED_GRADIENT = Exercise(
    id="10.tied_gradient",
    cases=(
        (torch.tensor([1]), _ROWS[:1], _X[:1], _GRADS[:1]),
        (torch.tensor([0, 2]), _ROWS[:2], _X[:2], _GRADS[:2]),
        (torch.tensor([1, 0, 1]), _ROWS, _X, _GRADS),
    ),
    reference=_tied_gradient,
    wrong_answers=(
        WrongAnswer(
            _lookup_only,
            "Only the look-up is counted: the same table also made the logits.",
        ),
        WrongAnswer(
            lambda tokens, row_grads, x, logit_grads: logit_grads.T @ x,
            "Only the head is counted: the rows that were looked up have a gradient as well.",
        ),
        WrongAnswer(
            lambda *given: _tied_gradient(*given) / 2,
            "This is the mean of both uses: the gradient of a table used twice is the sum of both.",
        ),
        WrongAnswer(
            _overwriting,
            "A token that occurs twice keeps one gradient only: its two have to be added.",
        ),
        WrongAnswer(
            lambda *given: 2 * _lookup_only(*given) - _tied_gradient(*given),
            "The head's part is subtracted: both parts of a gradient are added.",
        ),
    ),
    hints=(
        "Compute two tables (V, D): one for the use as an embedding, one for the use as a head.",
        "Row v of the head's: for every position, the gradient of logit v times that position's x.",
        "Row v of the embedding's: the gradients of all positions that looked up token v, summed.",
    ),
)


def _flops(d_model: int, d_ff: int, n_context: int) -> int:
    """Operations of one GPT-2 block for one token that sees n_context tokens, itself included."""
    matrices = 4 * d_model * d_model + 2 * d_model * d_ff
    scores_and_mixing = 2 * d_model * n_context
    return 2 * (matrices + scores_and_mixing)


FLOPS = Exercise(
    id="10.flops",
    cases=((1, 1, 1), (2, 3, 1), (4, 16, 5), (768, 3072, 1024)),
    reference=_flops,
    wrong_answers=(
        WrongAnswer(
            lambda d, f, n: _flops(d, f, n) // 2,
            "Only multiplications are counted: each comes with an addition.",
        ),
        WrongAnswer(
            lambda d, f, n: 2 * (4 * d * d + 2 * d * f),
            "The context is missing: a query is multiplied with the key of every visible token.",
        ),
        WrongAnswer(
            lambda d, f, n: 2 * (4 * d * d + 2 * d * f + d * n),
            "Either the scores or the mixing is missing: both keys and values are multiplied.",
        ),
        WrongAnswer(
            lambda d, f, n: 2 * (4 * d * d + 2 * d * f + 2 * d * n * n),
            "The context is squared: this is one token; all n_context tokens cost n_context times.",
        ),
        WrongAnswer(
            lambda d, f, n: 2 * (3 * d * d + 2 * d * f + 2 * d * n),
            "Attention has four matrices: queries, keys, values, and the one that mixes the heads.",
        ),
        WrongAnswer(
            lambda d, f, n: 2 * (4 * d * d + d * f + 2 * d * n),
            "The feed-forward layer has two matrices: up and down.",
        ),
    ),
    hints=(
        "A matrix of n x m numbers is used once a token: n m multiplications, as many additions.",
        "The query is multiplied with n_context keys, and n_context values with their shares.",
        "All heads together are d_model wide: one key costs as much as d_model numbers.",
    ),
)


def _kv_bytes(
    n_layers: int, n_heads: int, n_kv_heads: int, head_dim: int, n_tokens: int, n_bytes: int
) -> int:
    """Memory for the keys and values of n_tokens tokens, with n_bytes to a number."""
    return 2 * n_layers * n_kv_heads * head_dim * n_tokens * n_bytes


KV_BYTES = Exercise(
    id="10.kv_bytes",
    cases=((1, 1, 1, 1, 1, 1), (3, 4, 2, 5, 1, 2), (16, 32, 8, 64, 1000, 2)),
    reference=_kv_bytes,
    wrong_answers=(
        WrongAnswer(
            lambda n, h, k, d, t, b: _kv_bytes(n, h, k, d, t, b) // 2,
            "This counts keys or values only: generation needs both.",
        ),
        WrongAnswer(
            lambda n, h, k, d, t, b: _kv_bytes(n, h, h, d, t, b),
            "Keys and values are kept for every query head: only n_kv_heads of them exist.",
        ),
        WrongAnswer(
            lambda n, h, k, d, t, b: _kv_bytes(1, h, k, d, t, b),
            "This is one layer: every block has keys and values of its own.",
        ),
        WrongAnswer(
            lambda n, h, k, d, t, b: _kv_bytes(n, h, k, d, t, 1),
            "These are numbers, not bytes: a number takes n_bytes of them.",
        ),
        WrongAnswer(
            lambda n, h, k, d, t, b: n * k * d * t * (t + 1) * b,
            "This grows with the square of the length: each key is computed once and kept.",
        ),
    ),
    hints=(
        "What is kept of one token in one block, for later tokens to attend to?",
        "A key and a value for each head that has them, head_dim numbers each; then all blocks.",
    ),
)


EXERCISES = (
    BLOCK_PARAMETERS,
    RESIDUAL_STD,
    FIRST_LOSS,
    TIED_GRADIENT,
    FLOPS,
    KV_BYTES,
)
