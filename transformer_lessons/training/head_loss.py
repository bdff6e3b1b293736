"""Output head and loss in one, a few rows at a time: never all logits at once.

With a large vocabulary the logits are the largest thing in training: 2,048 tokens times 100,277
words are 0.8 GB in float32, and the softmax and the gradient are as large again. But the gradient
of a token's loss with respect to its logits is softmax(logits) minus 1 at the target, so it can be
worked out, and handed on to what is before the logits, while they are there.
Source: Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM Training", section 3.2.
"""

import torch
from torch import Tensor

from transformer_lessons.data.batches import IGNORE


def total_surprise_of_head(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, rows: int
) -> Tensor:
    """`total_surprise(hidden @ weight.T + bias, targets)`, computed `rows` tokens at a time.

    `hidden` is (..., D), `weight` (V, D), `bias` (V,) or None, `targets` (...); a scalar comes
    out. At no time are there more than `rows` x V logits. Products run in the precision of
    autocast, where that is on; sums run in float32 at least.

    >>> _ = torch.manual_seed(0)
    >>> hidden, head = torch.randn(5, 4), torch.nn.Linear(4, 9)
    >>> targets = torch.tensor([0, 8, 3, IGNORE, 1])
    >>> by_rows = total_surprise_of_head(hidden, head.weight, head.bias, targets, rows=2)
    >>> from transformer_lessons.training.loss import total_surprise
    >>> torch.testing.assert_close(by_rows, total_surprise(head(hidden), targets))
    """
    return HeadLoss.apply(hidden.flatten(0, -2), weight, bias, targets.flatten(), rows)


class HeadLoss(torch.autograd.Function):
    """`total_surprise_of_head`, which works out its gradients on the way forward."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, rows):
        device = hidden.device.type
        narrow = hidden.dtype
        if torch.is_autocast_enabled(device):
            narrow = torch.get_autocast_dtype(device)
        matrix, wide = weight.to(narrow), torch.promote_types(narrow, torch.float32)
        total, of_hidden = hidden.new_zeros((), dtype=wide), []
        of_weight = torch.zeros_like(weight, dtype=wide)
        of_bias = None if bias is None else torch.zeros_like(bias, dtype=wide)
        for part, chosen in zip(hidden.to(narrow).split(rows), targets.split(rows), strict=True):
            real = chosen != IGNORE
            chosen = chosen.where(real, 0)[:, None]  # (rows, 1)
            logits = (part @ matrix.T).to(wide)  # (rows, V)
            if bias is not None:
                logits += bias
            log_p = logits.log_softmax(dim=-1)
            total -= log_p.gather(-1, chosen).squeeze(-1).where(real, 0).sum()
            slope = log_p.exp_()  # the softmax, in the same memory …
            slope.scatter_add_(-1, chosen, -torch.ones_like(slope[:, :1]))  # … minus 1 there
            slope *= real[:, None]
            if bias is not None:
                of_bias += slope.sum(dim=0)
            slope = slope.to(narrow)
            of_hidden.append(slope @ matrix)
            of_weight += slope.T @ part
        ctx.save_for_backward(torch.cat(of_hidden), of_weight, of_bias)
        ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        return total

    @staticmethod
    def backward(ctx, upstream):
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*(g if g is None else (g * upstream).to(dtype) for g, dtype in pairs), None, None)
