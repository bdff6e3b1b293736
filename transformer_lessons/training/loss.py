"""How wrong the model is, as one number: cross-entropy. Lessons 1 and 12.

With a large vocabulary the logits are the largest thing in training: 2,048 tokens times 100,277
words are 0.8 GB in float32, and the softmax and the gradient are as large again. But the gradient
of a token's loss with respect to its logits is softmax(logits) minus 1 at the target, so it can be
worked out, and handed on to what is before the logits, while they are there.
Sources: Shannon 1948, "A Mathematical Theory of Communication"; for the loss in chunks, Hsu et al.
2024, "Liger Kernel: Efficient Triton Kernels for LLM Training", section 3.2.
"""

import torch
from torch import Tensor

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.errors import LessonsError


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
    hidden_states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, chunk_size: int
) -> Tensor:
    """The sum of the cross-entropy of `hidden_states @ weight.T + bias`, never with all logits.

    `hidden_states` is (..., D), `weight` (V, D), `bias` (V,) or None, `targets` (...); a scalar
    comes out. `chunk_size` tokens are worked on at a time, so there are never more than
    `chunk_size` x V logits. Products run in the precision of autocast, where that is on; sums run
    in float32 at least.

    >>> _ = torch.manual_seed(0)
    >>> hidden_states, head = torch.randn(5, 4), torch.nn.Linear(4, 9)
    >>> targets = torch.tensor([0, 8, 3, IGNORE, 1])
    >>> in_chunks = linear_cross_entropy(hidden_states, head.weight, head.bias, targets, 2)
    >>> whole = cross_entropy(head(hidden_states), targets, reduction="sum")
    >>> torch.testing.assert_close(in_chunks, whole)
    """
    rows = hidden_states.flatten(0, -2)
    return LinearCrossEntropy.apply(rows, weight, bias, targets.flatten().long(), chunk_size)


class LinearCrossEntropy(torch.autograd.Function):
    """`linear_cross_entropy` of (N, D) rows, which works out its gradients on the way forward."""

    @staticmethod
    def forward(ctx, hidden_states, weight, bias, targets, chunk_size):
        device, narrow = hidden_states.device.type, hidden_states.dtype
        if torch.is_autocast_enabled(device):
            narrow = torch.get_autocast_dtype(device)
        matrix, wide = weight.to(narrow), torch.promote_types(narrow, torch.float32)
        total, of_hidden = hidden_states.new_zeros((), dtype=wide), []
        of_weight = torch.zeros_like(weight, dtype=wide)
        of_bias = None if bias is None else torch.zeros_like(bias, dtype=wide)
        chunks = hidden_states.to(narrow).split(chunk_size), targets.split(chunk_size)
        for part, chosen in zip(*chunks, strict=True):
            is_real = chosen != IGNORE
            chosen = chosen.where(is_real, 0)[:, None]  # (chunk_size, 1)
            logits = (part @ matrix.T).to(wide)  # (chunk_size, V)
            if bias is not None:
                logits += bias
            log_p = logits.log_softmax(dim=-1)
            total -= log_p.gather(-1, chosen).squeeze(-1).where(is_real, 0).sum()
            grad = log_p.exp_()  # the softmax, in the same memory …
            grad.scatter_add_(-1, chosen, -torch.ones_like(grad[:, :1]))  # … minus 1 there
            grad *= is_real[:, None]
            if bias is not None:
                of_bias += grad.sum(dim=0)
            grad = grad.to(narrow)
            of_hidden.append(grad @ matrix)
            of_weight += grad.T @ part
        ctx.save_for_backward(torch.cat(of_hidden), of_weight, of_bias)
        ctx.dtypes = hidden_states.dtype, weight.dtype, None if bias is None else bias.dtype
        return total

    @staticmethod
    def backward(ctx, upstream):
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*(g if g is None else (g * upstream).to(dtype) for g, dtype in pairs), None, None)
