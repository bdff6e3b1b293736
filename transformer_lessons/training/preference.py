"""Learning from what is good, where nobody can say what is right: rewards and pairs. Lesson 23."""

import ast
import builtins
import math

import torch
from torch import Tensor

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.errors import LessonsError


def sequence_log_probability(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """log p of the real targets of each row, in nats: the sum of their log-probabilities.

    `inputs` and `targets` are (B, T), (B,) comes out. `IGNORE`, at the prompt and at padding, is
    not counted: the result is log p(answer | prompt).

    >>> even = torch.nn.Embedding.from_pretrained(torch.zeros(4, 4))  # each token has p = 1/4
    >>> sequence_log_probability(even, torch.tensor([[0, 1, 2]]), torch.tensor([[IGNORE, 2, 3]]))
    tensor([-2.7726])
    """
    targets = targets.long()
    is_real = targets != IGNORE
    if inputs.shape != targets.shape or inputs.dim() != 2 or not is_real.any(dim=1).all():
        what = f"inputs {tuple(inputs.shape)}, targets {tuple(targets.shape)}"
        raise LessonsError(what, remedy="Give (B, T), with at least one real target in each row.")
    logits = model(inputs)  # (B, T, V)
    log_p = (logits.float() if logits.element_size() < 4 else logits).log_softmax(dim=-1)
    chosen = log_p.gather(-1, targets.where(is_real, 0)[..., None]).squeeze(-1)
    return chosen.where(is_real, 0).sum(dim=1)


def group_advantages(rewards: Tensor, group_size: int) -> Tensor:
    """Each reward minus the mean of its group; `rewards` (N,) has the groups side by side.

    Raises `LessonsError` if in every group all rewards are equal: there is nothing to learn then.
    Source: Shao et al. 2024, "DeepSeekMath", section 4.1, without the division by the deviation.

    >>> group_advantages(torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 1.0]), group_size=2)
    tensor([ 0.5000, -0.5000, -0.5000,  0.5000,  0.0000,  0.0000])
    """
    if rewards.dim() != 1 or group_size < 2 or len(rewards) % group_size or not len(rewards):
        what = f"rewards {tuple(rewards.shape)} aren't whole groups of {group_size}, 2 or more each"
        raise LessonsError(what, where="group_advantages")
    _check_finite("group_advantages", rewards)
    groups = rewards.float().view(-1, group_size)
    if (groups == groups[:, :1]).all():
        what = f"all rewards of each group are equal, in the first one {groups[0, 0].item():g}"
        remedy = "Nothing can be learned. Take other prompts, or more samples of each."
        raise LessonsError(what, where="group_advantages", remedy=remedy)
    return (groups - groups.mean(dim=1, keepdim=True)).flatten()


def policy_gradient_loss(log_probabilities: Tensor, advantages: Tensor) -> Tensor:
    """-mean(advantage · log p) over samples (N,) that the model itself has drawn; a scalar.

    Its gradient is on average minus that of the expected reward. None goes into the advantages.
    Source: Williams 1992, "Simple Statistical Gradient-Following Algorithms".

    >>> policy_gradient_loss(torch.tensor([-1.0, -2.0]), torch.tensor([0.5, -0.5]))
    tensor(-0.2500)
    """
    _check_alike("policy_gradient_loss", log_probabilities, advantages)
    _check_finite("policy_gradient_loss", advantages)
    return -(advantages.detach() * log_probabilities).mean()


def dpo_loss(
    chosen: Tensor, rejected: Tensor, base_chosen: Tensor, base_rejected: Tensor, beta: float
) -> Tensor:
    """-log sigmoid(beta · margin), its mean over pairs; all four tensors are log p, (N,) each.

    margin = (chosen - base_chosen) - (rejected - base_rejected). Where it is 0, the loss is ln 2.
    Source: Rafailov et al. 2023, "Direct Preference Optimization", equation 7.

    >>> dpo_loss(*torch.zeros(4, 2), beta=0.1)
    tensor(0.6931)
    """
    _check_alike("dpo_loss", chosen, rejected, base_chosen, base_rejected)
    if not 0 < beta < math.inf:
        raise LessonsError(f"beta = {beta!r} is not a positive number", where="dpo_loss")
    margin = (chosen - base_chosen) - (rejected - base_rejected)
    return -torch.nn.functional.logsigmoid(beta * margin).mean()


def undefined_names(source: str) -> set[str]:
    """The names that Python code uses and that are bound nowhere in it, nor built in.

    Where a name is bound isn't looked at. Code that doesn't parse raises `SyntaxError`.

    >>> sorted(undefined_names("def f(a):\\n    b = len(a)\\n    return b + c + os.sep"))
    ['c', 'os']
    """
    used, bound = set(), set(dir(builtins))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                bound.add(node.name)
            case ast.alias(name=path, asname=name):
                bound.add(name or path.split(".")[0])
    return used - bound


def _check_alike(where: str, *tensors: Tensor) -> None:
    """Raise `LessonsError` unless all tensors are of one shape (N,), and N is not 0."""
    shapes = [tuple(t.shape) for t in tensors]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or shapes[0] == (0,):
        raise LessonsError(f"shapes {shapes}: each must be the same (N,)", where=where)


def _check_finite(where: str, values: Tensor) -> None:
    """Raise `LessonsError` if a reward or an advantage is NaN or infinite."""
    if bad := [(i, x) for i, x in enumerate(values.tolist()) if not math.isfinite(x)]:
        raise LessonsError("values[{}] is {}".format(*bad[0]), where=where)
