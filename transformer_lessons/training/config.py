"""How a model is trained: every choice of a run that is not the model's own."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from transformer_lessons.config import check_field, config_from_dict
from transformer_lessons.errors import LessonsError


@dataclass(frozen=True)
class TrainConfig:
    """The choices of a training run. Impossible values raise `LessonsError`, naming the field.

    >>> TrainConfig(steps=100).learning_rate
    0.005
    """

    steps: int = 400  # how many updates
    batch_size: int = 16  # B: windows or pairs in one update
    learning_rate: float = 0.005  # the largest one
    min_learning_rate: float = 0.0005  # the one at the end
    warmup_steps: int = 0  # steps of climbing to the largest
    weight_decay: float = 0.0  # pull of every matrix towards zero
    clip_norm: float = 1.0  # longest gradient allowed
    seed: int = 0  # of the initial parameters and of the order of the data

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            check_field(self, name, int, "an integer of at least 1", lambda v: v >= 1)
        for name in ("warmup_steps", "seed"):
            check_field(self, name, int, "an integer of at least 0", lambda v: v >= 0)
        for name in ("learning_rate", "clip_norm"):
            check_field(self, name, float, "above 0 and finite", lambda v: 0 < v < math.inf)
        for name in ("min_learning_rate", "weight_decay"):
            check_field(self, name, float, "0 or more and finite", lambda v: 0 <= v < math.inf)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values; `TrainConfig.from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "TrainConfig") -> "TrainConfig":
        """The inverse of `to_dict`; unknown keys raise `LessonsError`."""
        return config_from_dict(cls, values, where)


def train_preset(name: str) -> TrainConfig:
    """Training choices that suit the model preset of the same name.

    >>> train_preset("fluctlight").steps
    400
    """
    presets = {
        "fluctlight": TrainConfig(),
        "bytes-1m": TrainConfig(
            steps=800,
            batch_size=16,
            learning_rate=3e-3,
            min_learning_rate=3e-4,
            warmup_steps=50,
            weight_decay=0.1,
        ),
    }
    if name not in presets:
        remedy = f"Known presets: {', '.join(sorted(presets))}."
        raise LessonsError(f"unknown preset {name!r}", remedy=remedy)
    return presets[name]
