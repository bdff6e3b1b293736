"""What training in several processes takes of each, by arithmetic. Lesson 15."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ParallelPlan:
    """What one rank holds, sends and waits for; a step takes between `shortest` and `longest`."""

    held: float  # bytes of weights, gradients and averages; activations come on top
    sent: float  # bytes in a step
    compute: float  # seconds
    exchange: float  # seconds

    @property
    def shortest(self) -> float:
        """The seconds of a step whose exchange is wholly hidden behind the computing."""
        return max(self.compute, self.exchange)

    @property
    def longest(self) -> float:
        """The seconds of a step in which nothing overlaps."""
        return self.compute + self.exchange


def plan_ranks(
    n_parameters: float,
    n_ranks: int,
    shard: bool,
    tokens: float,
    flops: float = 4e14,
    bandwidth: float = 5e10,
    exchanged: int = 4,
) -> ParallelPlan:
    """A step over `tokens` tokens (of all ranks together) with AdamW, in float32.

    A parameter takes 16 bytes: weight, gradient, two averages. Of these a rank holds all, or with
    `shard` its share. It computes 6 FLOPs a token and parameter, `flops` a second, and sends
    `bandwidth` bytes a second: 2 (n - 1) / n of all gradients (DDP: a ring), or 3 (n - 1) / n of
    all parameters (FSDP: gathered forward and backward, gradients summed), `exchanged` bytes each.
    Source: Rajbhandari et al. 2020, "ZeRO", sections 3 and 7.

    >>> plan_ranks(7e9, 8, shard=True, tokens=4e6).held / 1e9
    14.0
    """
    share = (n_ranks - 1) / n_ranks
    held = 16 * n_parameters / (n_ranks if shard else 1)
    sent = (3 if shard else 2) * share * exchanged * n_parameters
    return ParallelPlan(held, sent, 6 * n_parameters * tokens / n_ranks / flops, sent / bandwidth)
