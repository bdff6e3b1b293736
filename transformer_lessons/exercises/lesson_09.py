"""The exercises of lesson 09: norms, where they stand, and the feed-forward layer.

Shapes: T tokens, D numbers per token, F hidden ones.
"""

import torch
from torch import Tensor
from torch.nn.functional import silu

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _layer_norm(x: Tensor, eps: float) -> Tensor:
    """Each token of `x` (T, D) with mean 0 and variance 1, without a learned weight or bias."""
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return centred / (variance + eps).sqrt()


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


LAYER_NORM = Exercise(
    id="09.layer_norm",
    cases=(
        (torch.tensor([[0.0, 2.0]]), 1e-3),
        (torch.tensor([[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 0.0, 4.0]]), 1e-3),
        (torch.tensor([[7.0, 7.0, 7.0]]), 1e-3),
        (torch.tensor([[0.01, -0.01]]), 3e-4),
    ),
    reference=_layer_norm,
    wrong_answers=(
        WrongAnswer(
            lambda x, eps: _centred(x) / (x.var(dim=-1, keepdim=True) + eps).sqrt(),
            "This variance is the unbiased one, divided by D - 1: a layer norm divides by D.",
        ),
        WrongAnswer(
            lambda x, eps: _centred(x) / (x.var(dim=-1, keepdim=True, correction=0).sqrt() + eps),
            "eps is added to the root: it belongs inside, to the variance.",
        ),
        WrongAnswer(
            lambda x, eps: _centred(x) / (x.std(dim=-1, keepdim=True) + eps),
            "Two mistakes: eps is added outside the root, and std divides by D - 1.",
        ),
        WrongAnswer(
            lambda x, eps: _layer_norm(x.T, eps).T,
            "Mean and variance run over the tokens: each token is normalized on its own.",
        ),
        WrongAnswer(
            lambda x, eps: (x - x.mean()) / (x.var(correction=0) + eps).sqrt(),
            "One mean and one variance serve all tokens: every token needs its own two.",
        ),
        WrongAnswer(
            lambda x, eps: _centred(x) / (_centred(x).square().mean(dim=-1, keepdim=True) + eps),
            "This divides by the variance: the root is missing.",
        ),
        WrongAnswer(
            lambda x, eps: x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt(),
            "The mean stays in: this is an RMS norm, not a layer norm.",
        ),
    ),
    hints=(
        "Two numbers per token are needed, the mean and the variance. Compute them for 0 and 2.",
        "keepdim=True lets a column of T means meet a table of T rows. Mind what var divides by.",
    ),
)


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Each token of `x` (T, D) divided by its root mean square, times `weight` (D,)."""
    mean_square = x.square().mean(dim=-1, keepdim=True)
    return x / (mean_square + eps).sqrt() * weight


RMS_NORM = Exercise(
    id="09.rms_norm",
    cases=(
        (torch.tensor([[3.0, 4.0]]), torch.ones(2), 1e-3),
        (torch.tensor([[1.0, 2.0, 3.0, 6.0]]), torch.tensor([1.0, 1.0, 1.0, 2.0]), 1e-3),
        (torch.tensor([[1.0, -1.0, 5.0], [2.0, 0.0, 0.0]]), torch.tensor([1.0, 2.0, 0.5]), 1e-3),
        (torch.tensor([[0.01, -0.01]]), torch.ones(2), 3e-4),
    ),
    reference=_rms_norm,
    wrong_answers=(
        WrongAnswer(
            lambda x, weight, eps: _rms_norm(_centred(x), weight, eps),
            "The mean is taken off: that is layer norm. An RMS norm only rescales.",
        ),
        WrongAnswer(
            lambda x, weight, eps: x / (x.square().sum(-1, keepdim=True) + eps).sqrt() * weight,
            "The squares are added up without dividing by D: tokens get length 1, not sqrt(D).",
        ),
        WrongAnswer(
            lambda x, weight, eps: x / (x.abs().mean(-1, keepdim=True) + eps) * weight,
            "This is the mean of the absolute values: square first, then mean, then root.",
        ),
        WrongAnswer(
            lambda x, weight, eps: x / (x.square().mean(-1, keepdim=True).sqrt() + eps) * weight,
            "eps is added after the square root: it belongs inside, to the mean square.",
        ),
        WrongAnswer(
            lambda x, weight, eps: _rms_norm(x, torch.ones_like(weight), eps),
            "The weight is not used: each of the D numbers has a learned scale.",
        ),
        WrongAnswer(
            lambda x, weight, eps: _rms_norm(x * weight, torch.ones_like(weight), eps),
            "The weight comes first: then the norm undoes part of it. Scale after dividing.",
        ),
        WrongAnswer(
            lambda x, weight, eps: x / (x.square().mean() + eps).sqrt() * weight,
            "One mean square is shared by all tokens: each is divided by its own.",
        ),
        WrongAnswer(
            lambda x, weight, eps: _rms_norm(x, weight, 0.0),
            "eps is not used: it is added to the mean square, under the root.",
        ),
        WrongAnswer(
            lambda x, weight, eps: x / x.norm(dim=-1, keepdim=True) * weight,
            "This divides by the length of the vector: its root mean square is length / sqrt(D).",
        ),
    ),
    hints=(
        "Read the name from right to left: square, mean, root.",
        "(3, 4) has the mean square 12.5. After the norm, the mean square of a token is 1.",
    ),
)


def _swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """The gated layer on `x` (T, D), from matrices `gate`, `up` (F, D) and `down` (D, F)."""
    return (silu(x @ gate.T) * (x @ up.T)) @ down.T


_GATE = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
_UP = torch.tensor([[0.0, 3.0], [1.0, 1.0], [2.0, -1.0]])
_DOWN = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])

SWIGLU = Exercise(
    id="09.swiglu",
    cases=(
        tuple(torch.tensor([[number]]) for number in (1.0, 1.0, 2.0, 1.0)),
        (torch.tensor([[1.0, 2.0]]), _GATE, _UP, _DOWN),
        (torch.tensor([[-1.0, 0.5], [3.0, -2.0]]), _GATE, _UP, _DOWN),
    ),
    reference=_swiglu,
    wrong_answers=(
        WrongAnswer(
            lambda x, gate, up, down: _swiglu(x, up, gate, down),
            "Gate and up are swapped: the silu belongs to the gate.",
        ),
        WrongAnswer(
            lambda x, gate, up, down: ((x @ gate.T).sigmoid() * (x @ up.T)) @ down.T,
            "The gate is a sigmoid only: silu(x) is x times sigmoid(x).",
        ),
        WrongAnswer(
            lambda x, gate, up, down: silu((x @ gate.T) * (x @ up.T)) @ down.T,
            "The silu comes after the product: only the gate goes through it.",
        ),
        WrongAnswer(
            lambda x, gate, up, down: (silu(x @ gate.T) + (x @ up.T)) @ down.T,
            "Gate and up are added: a gate multiplies, so that it can close.",
        ),
        WrongAnswer(
            lambda x, gate, up, down: ((x @ gate.T).relu() * (x @ up.T)) @ down.T,
            "The gate is a ReLU: this one is meant to be a silu.",
        ),
        WrongAnswer(
            lambda x, gate, up, down: silu(x @ gate.T) @ down.T,
            "The up matrix is not used: the gate has to multiply its result.",
        ),
    ),
    hints=(
        "Three matrix products: two go from D to F, one goes back. Which two run side by side?",
        "Work out the first case by hand: silu(1) is 0.7311, and it multiplies 2.",
    ),
)


def _faded_norm(x: Tensor) -> Tensor:
    """Layer norm of `x` (T, D), with eps 1e-5, adaptive: off at D = 4, full from D = 32 on."""
    s = min(max((x.shape[-1] - 4) / 28, 0.0), 1.0)
    return x + s * (_layer_norm(x, 1e-5) - x)


def _fade(x: Tensor, s: float) -> Tensor:
    return x + s * (_layer_norm(x, 1e-5) - x)


def _row(width: int) -> Tensor:
    """One token: 0, 1, 2, 3, 0, 1, … so that its mean and variance are far from 0 and 1."""
    return (torch.arange(float(width)) % 4)[None]


FADED_NORM = Exercise(
    id="09.faded_norm",
    cases=((_row(2),), (_row(4),), (_row(18),), (_row(46),)),
    reference=_faded_norm,
    wrong_answers=(
        WrongAnswer(
            lambda x: _fade(x, (x.shape[-1] - 4) / 28),
            "The scale leaves the range from 0 to 1: it is 0 below D = 4 and 1 above D = 32.",
        ),
        WrongAnswer(
            lambda x: _fade(x, min((x.shape[-1] - 4) / 28, 1.0)),
            "Below D = 4 the scale is negative: the clamp has two ends.",
        ),
        WrongAnswer(
            lambda x: _fade(x, max((x.shape[-1] - 4) / 28, 0.0)),
            "Above D = 32 the scale is more than 1 and overshoots the norm: clamp that end too.",
        ),
        WrongAnswer(
            lambda x: _fade(x, 1 - min(max((x.shape[-1] - 4) / 28, 0.0), 1.0)),
            "The scale is reversed: it should be 0 for the smallest models and 1 for large ones.",
        ),
        WrongAnswer(
            lambda x: min(max((x.shape[-1] - 4) / 28, 0.0), 1.0) * _layer_norm(x, 1e-5),
            "What is not yet normalized is lost: at scale 0 the input has to pass unchanged.",
        ),
        WrongAnswer(
            lambda x: x + min(max((x.shape[-1] - 4) / 28, 0.0), 1.0) * _layer_norm(x, 1e-5),
            "The normalized numbers are added on top: at scale 1 the input has to be gone.",
        ),
        WrongAnswer(
            lambda x: _fade(x, min(x.shape[-1] / 32, 1.0)),
            "The fading starts at D = 0: it should start at D = 4.",
        ),
    ),
    hints=(
        "Three sizes to check by hand: 4 gives back x, 32 the norm, and 18 the middle of the two.",
        "The result lies between x and its norm, and the scale says how far along.",
    ),
    tolerance=1e-4,
)


def _pre_or_post(x: Tensor, weight: Tensor, placement: str) -> Tensor:
    """One residual step: the layer is x @ weight.T, the norm an RMS norm without a weight."""

    def norm(x):
        return _rms_norm(x, torch.ones(x.shape[-1]), 1e-5)

    if placement == "pre":
        return x + norm(x) @ weight.T
    return norm(x + x @ weight.T)


def _norm(x: Tensor) -> Tensor:
    return _rms_norm(x, torch.ones(x.shape[-1]), 1e-5)


_TURN = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
_GROW = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 0.0, -1.0]])


def _instead_of(which: str, wrong: Tensor, x: Tensor, weight: Tensor, placement: str) -> Tensor:
    """The right answer, but `wrong` where `placement` is `which`."""
    return wrong if placement == which else _pre_or_post(x, weight, placement)


PRE_OR_POST = Exercise(
    id="09.pre_or_post",
    cases=tuple(
        (torch.tensor(x), weight, placement)
        for x, weight in (([[3.0, 4.0]], _TURN), ([[1.0, 2.0, 0.0], [0.0, -5.0, 1.0]], _GROW))
        for placement in ("pre", "post")
    ),
    reference=_pre_or_post,
    wrong_answers=(
        WrongAnswer(
            lambda x, weight, placement: _pre_or_post(
                x, weight, "post" if placement == "pre" else "pre"
            ),
            "Pre and post are swapped: pre normalizes what the layer reads, post the sum.",
        ),
        WrongAnswer(
            lambda x, weight, placement: _instead_of(
                "pre", _norm(x) + _norm(x) @ weight.T, x, weight, placement
            ),
            "Pre-norm changes the residual stream here: only the layer reads the normalized x.",
        ),
        WrongAnswer(
            lambda x, weight, placement: _instead_of(
                "post", x + _norm(x @ weight.T), x, weight, placement
            ),
            "This post-norm normalizes the layer's result only: it should normalize the whole sum.",
        ),
        WrongAnswer(
            lambda x, weight, placement: (
                _norm(x) @ weight.T if placement == "pre" else _norm(x @ weight.T)
            ),
            "The residual is missing: a layer adds to x and doesn't replace it.",
        ),
        WrongAnswer(
            lambda x, weight, placement: _instead_of(
                "post", _norm(x + _norm(x) @ weight.T), x, weight, placement
            ),
            "Post-norm normalizes twice here: its layer reads x as it is.",
        ),
    ),
    hints=(
        "Write both formulas down with x, norm and layer. Where is the plus, inside or outside?",
        "In one of the two, x itself is never touched. In the other, the norm comes last.",
    ),
)


def _equal_width(d_ff: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least 2/3 of `d_ff`."""
    return -(-2 * d_ff // (3 * multiple)) * multiple


EQUAL_WIDTH = Exercise(
    id="09.equal_width",
    cases=((3, 1), (4, 1), (192, 1), (256, 8), (16384, 256)),
    reference=_equal_width,
    wrong_answers=(
        WrongAnswer(
            lambda d_ff, multiple: 2 * d_ff // (3 * multiple) * multiple,
            "This rounds down: the width should be at least 2/3 of d_ff.",
        ),
        WrongAnswer(
            lambda d_ff, multiple: round(2 * d_ff / (3 * multiple)) * multiple,
            "This rounds to the nearest multiple: it should never go below 2/3 of d_ff.",
        ),
        WrongAnswer(
            lambda d_ff, multiple: -(-2 * d_ff // 3),
            "The multiple makes no difference: round up to a whole number of them.",
        ),
        WrongAnswer(
            lambda d_ff, multiple: -(-3 * d_ff // (2 * multiple)) * multiple,
            "The ratio is upside down: three matrices have to be narrower than two, not wider.",
        ),
        WrongAnswer(
            lambda d_ff, multiple: -(-d_ff // (2 * multiple)) * multiple,
            "This halves the width: a gated layer has three matrices where the other has two.",
        ),
        WrongAnswer(
            lambda d_ff, multiple: -(-8 * d_ff // (3 * multiple)) * multiple,
            "8/3 is the factor on d_model: d_ff is already four times as wide.",
        ),
    ),
    hints=(
        "Count the weights of both kinds: 2 * D * d_ff on one side, 3 * D * F on the other.",
        "To round up with whole numbers, round down the negative: -(-7 // 2) is 4.",
    ),
)

EXERCISES = (LAYER_NORM, RMS_NORM, SWIGLU, FADED_NORM, PRE_OR_POST, EQUAL_WIDTH)
