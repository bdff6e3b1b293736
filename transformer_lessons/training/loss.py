"""How wrong the model is, as one number: cross-entropy. Lessons 1 and 12.

With a large vocabulary the logits are the largest thing in training: 2,048 tokens times 100,277
words are 0.8 GB in float32, and the softmax and the gradient are as large again. But the gradient
of a token's loss with respect to its logits is softmax(logits) minus 1 at the target, so it can be
worked out, and handed on to what is before the logits, while they are there.
Sources: Shannon 1948, "A Mathematical Theory of Communication"; for the loss in chunks, Hsu et al.
2024, "Liger Kernel: Efficient Triton Kernels for LLM Training", section 3.2; for blocks of the
vocabulary, Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models".
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.compilation import compiled


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """-log softmax(logits)[target] over the targets that are not `IGNORE`: their mean, or "sum".

    `logits` is (..., V), `targets` is (...); a scalar in nats comes out. -log softmax is computed
    as logsumexp(logits) - logits[target], which never takes the logarithm of a rounded-off zero,
    and in float32 at least, because bfloat16 keeps only two or three digits.

    >>> targets = torch.tensor([97, IGNORE, 98])
    >>> round(cross_entropy(torch.zeros(3, 256), targets).item(), 4)  # ln 256
    5.5452
    >>> round(cross_entropy(torch.zeros(3, 256), targets, reduction="sum").item(), 4)
    11.0904
    """
    targets = targets.long()  # a token file has smaller integers
    is_real = targets != IGNORE
    chosen = logits.gather(-1, targets.where(is_real, 0)[..., None]).squeeze(-1)
    if logits.element_size() < 4:
        logits, chosen = logits.float(), chosen.float()
    total = (logits.logsumexp(dim=-1) - chosen).where(is_real, 0).sum()
    if reduction not in ("mean", "sum"):
        raise LessonsError(f"reduction = {reduction!r} is not mean or sum", where="cross_entropy")
    return total / is_real.sum() if reduction == "mean" else total


def linear_cross_entropy(
    hidden_states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    chunk_size: int,
    block_size: int = 2048,
) -> Tensor:
    """The sum of the cross-entropy of `hidden_states @ weight.T + bias`, never with all logits.

    `hidden_states` is (..., D), `weight` (V, D), `bias` (V,) or None, `targets` (...); a scalar
    comes out. `chunk_size` tokens are worked on at a time, so there are never more than
    `chunk_size` x V logits, and of these `block_size` words at a time, which fit into the
    processor's cache. Products run in the precision of autocast, where that is on; sums run in
    float32 at least.

    >>> _ = torch.manual_seed(0)
    >>> hidden_states, head = torch.randn(5, 4), torch.nn.Linear(4, 9)
    >>> targets = torch.tensor([0, 8, 3, IGNORE, 1])
    >>> in_chunks = linear_cross_entropy(hidden_states, head.weight, head.bias, targets, 2, 4)
    >>> whole = cross_entropy(head(hidden_states), targets, reduction="sum")
    >>> torch.testing.assert_close(in_chunks, whole)
    """
    rows = hidden_states.flatten(0, -2)
    if bias is not None:  # one more column, which every row multiplies by 1
        rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=-1)
        weight = torch.cat([weight, bias[:, None]], dim=-1)
    given = rows, weight, targets.flatten().long(), chunk_size, block_size
    if torch.compiler.is_compiling():  # a compiler would write the loops out: they stay outside
        return torch.compiler.disable(_with_compiled_blocks)(*given)
    return LinearCrossEntropy.apply(*given, _exponentials)


class LinearCrossEntropy(torch.autograd.Function):
    """`linear_cross_entropy` of (N, D) rows, which works out its gradients on the way forward.

    A block of logits with the largest m (one for each row) is kept as E = exp(logits - m). When the
    logsumexp L of the whole rows is known, softmax(logits) is E times s = exp(m - L), and s goes
    outside of the products: (s E) @ W = s (E @ W) and (s E).T @ h = E.T @ (s h). The target's own
    part, (p - 1) W[target], is added apart, so that p near 1 loses no digits.
    """

    @staticmethod
    def forward(ctx, hidden_states, weight, targets, chunk_size, block_size, exponentials):
        device, narrow = hidden_states.device.type, hidden_states.dtype
        if torch.is_autocast_enabled(device):
            narrow = torch.get_autocast_dtype(device)
        rows, matrix = hidden_states.to(narrow), weight.to(narrow)
        wide = torch.promote_types(narrow, torch.float32)
        loss, of_hidden = rows.new_zeros((), dtype=wide), torch.empty_like(rows, dtype=wide)
        of_weight = torch.zeros_like(weight, dtype=wide)
        parts = (tensor.split(chunk_size) for tensor in (rows, targets[:, None], of_hidden))
        with torch.autocast(device, enabled=False):
            for h, target, of_h in zip(*parts, strict=True):
                is_real = target != IGNORE
                target = target.where(is_real, 0)  # (chunk_size, 1), as what follows
                target_row = matrix[target[:, 0]].to(wide)
                target_logit = (h * target_row).sum(dim=-1, keepdim=True)
                logsumexp, blocks, start = target_logit, [], 0
                for block in matrix.split(block_size):
                    logits = h @ block.T  # (chunk_size, block_size)
                    place = target[:, 0] - start
                    here = ((place >= 0) & (place < len(block))).nonzero()[:, 0]
                    logits[here, place[here]] = -math.inf
                    E, largest, total = exponentials(logits)
                    logsumexp = torch.logaddexp(logsumexp, largest + total.log())
                    blocks.append((E, largest))
                    start += len(block)
                loss += (logsumexp - target_logit).where(is_real, 0).sum()
                p_minus_1 = torch.expm1(target_logit - logsumexp).where(is_real, 0)
                torch.mul(p_minus_1, target_row, out=of_h)
                matrices = zip(matrix.split(block_size), of_weight.split(block_size), strict=True)
                for (E, largest), (block, of_block) in zip(blocks, matrices, strict=True):
                    s = (largest - logsumexp).exp().where(is_real, 0)
                    of_h += s * (E @ block)
                    of_block += E.T @ (s * h).to(narrow)
                of_weight.index_add_(0, target[:, 0], p_minus_1 * h)
        ctx.save_for_backward(of_hidden, of_weight)
        ctx.dtypes = hidden_states.dtype, weight.dtype
        return loss

    @staticmethod
    def backward(ctx, upstream):
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return *((gradient * upstream).to(dtype) for gradient, dtype in pairs), *[None] * 4


def _exponentials(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E = exp(logits - largest) in the precision of `logits`, and largest and sum of each row."""
    values = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # A block may hold the target alone, whose place is -inf: E is 0 then, and not nan.
    largest = values.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(values.dtype).min)
    E = (values - largest).exp()
    return E.to(logits.dtype), largest, E.sum(dim=-1, keepdim=True)


def _with_compiled_blocks(*given: Any) -> Tensor:
    """`LinearCrossEntropy` for compiled models, with `_exponentials` as one loop over memory."""
    return LinearCrossEntropy.apply(*given, _compiled_exponentials())


@cache
def _compiled_exponentials() -> Callable:
    return compiled(_exponentials, dynamic=False)
