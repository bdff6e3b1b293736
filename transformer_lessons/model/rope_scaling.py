"""RoPE scaling (linear, NTK-aware, Llama 3, YaRN): slower turns for longer sequences. Lesson 6.

A pair that turns by `f` radians per token has made `L * f / 2π` full turns after L tokens. Pairs
that turn many times within the trained length tell near from far; pairs that don't complete one
turn have never shown the model their later angles, and those are what breaks in a longer sequence.
"""

import math

import torch
from torch import Tensor

from transformer_lessons.config import RopeScaling
from transformer_lessons.errors import LessonsError


def rope_frequencies(
    head_dim: int,
    theta: float = 10_000.0,
    scaling: RopeScaling | None = None,
    n_tokens: int = 1,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, float]:
    """Radians per token of every pair, (d/2,), and the factor on the size of turned vectors.

    Pair j turns by theta**(-2j/d), and the factor is 1, unless `scaling` says otherwise:

    linear   every pair `factor` times slower (Chen et al. 2023, "Extending Context Window ...")
    dynamic  a larger theta, once there are more tokens (`n_tokens`) than the trained length
             (bloc97 and emozilla 2023, "NTK-aware scaled RoPE")
    llama3   slow pairs `factor` times slower, fast ones as they are, a ramp between
             (Grattafiori et al. 2024, "The Llama 3 Herd of Models", and its code)
    yarn     the same with another ramp, and a factor (Peng et al. 2023, "YaRN")

    >>> rope_frequencies(4, theta=100.0)
    (tensor([1.0000, 0.1000]), 1.0)
    >>> rope_frequencies(4, theta=100.0, scaling=RopeScaling("linear", factor=2.0))
    (tensor([0.5000, 0.0500]), 1.0)
    """
    exponents = torch.arange(0, head_dim, 2, device=device, dtype=dtype) / head_dim
    if scaling is not None and scaling.kind == "dynamic":
        theta = dynamic_theta(theta, head_dim, scaling, n_tokens)
    frequencies = theta**-exponents
    if scaling is not None and scaling.kind == "linear":
        return frequencies / scaling.factor, 1.0
    if scaling is not None and scaling.kind == "llama3":
        return scale_like_llama3(frequencies, scaling), 1.0
    if scaling is not None and scaling.kind == "yarn":
        return scale_like_yarn(frequencies, theta, scaling)
    return frequencies, 1.0


def dynamic_theta(theta: float, head_dim: int, scaling: RopeScaling, n_tokens: int) -> float:
    """theta * (factor * n/L - (factor - 1))**(d / (d - 2)) for n > L tokens, else `theta`.

    With L the trained length. The fastest pair keeps its speed, the slowest slows down most. A head
    of one pair has no slow one and raises `LessonsError`.
    """
    if head_dim <= 2:
        what = f"dynamic scaling of heads of width {head_dim}"
        raise LessonsError(what, where="rope_scaling", remedy="Use heads of width 4 or more.")
    longer = max(n_tokens, scaling.trained_length) / scaling.trained_length
    return theta * (scaling.factor * longer - (scaling.factor - 1)) ** (head_dim / (head_dim - 2))


def scale_like_llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Divide by `factor` what turns less than `beta_slow` times in the trained length.

    Between `beta_slow` and `beta_fast` (4) the share that is left alone grows with the turns.
    """
    turns = scaling.trained_length * frequencies / (2 * math.pi)
    beta_fast = 4.0 if scaling.beta_fast is None else scaling.beta_fast
    keep = ((turns - scaling.beta_slow) / (beta_fast - scaling.beta_slow)).clamp(0, 1)
    return keep * frequencies + (1 - keep) * frequencies / scaling.factor


def scale_like_yarn(
    frequencies: Tensor, theta: float, scaling: RopeScaling
) -> tuple[Tensor, float]:
    """As `scale_like_llama3`, but the share that is left alone falls evenly from pair to pair.

    The ramp starts at the pair that makes `beta_fast` (32) turns in the trained length, rounded
    down, and ends at the one that makes `beta_slow`, rounded up. Turned queries and keys are
    multiplied by the attention factor 0.1 ln(factor) + 1, which sharpens attention.
    """
    n_pairs = len(frequencies)

    def pair_that_makes(turns: float) -> float:
        length = scaling.trained_length
        return n_pairs * math.log(length / (turns * 2 * math.pi)) / math.log(theta)

    beta_fast = 32.0 if scaling.beta_fast is None else scaling.beta_fast
    first = max(math.floor(pair_that_makes(beta_fast)), 0)
    last: float = min(math.ceil(pair_that_makes(scaling.beta_slow)), 2 * n_pairs - 1)
    last = last + 0.001 if last == first else last  # transformers' way round a division by zero
    pairs = torch.arange(n_pairs, device=frequencies.device, dtype=frequencies.dtype)
    keep = 1 - ((pairs - first) / (last - first)).clamp(0, 1)
    slowed = keep * frequencies + (1 - keep) * frequencies / scaling.factor
    if scaling.attention_factor is not None:
        return slowed, scaling.attention_factor
    return slowed, 0.1 * math.log(scaling.factor) + 1.0
