"""How a model is trained: every choice of a run that is not the model's own."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from transformer_lessons.config import check_field, config_from_dict
from transformer_lessons.errors import LessonsError

CHOICES = {
    "schedule": ("cosine", "constant", "wsd"),
    "optimizer": ("adamw", "muon"),
    "precision": ("fp32", "bf16", "fp16"),
}


@dataclass(frozen=True)
class TrainConfig:
    """The choices of a training run. Impossible values raise `LessonsError`, naming the field.

    >>> TrainConfig(steps=100).learning_rate
    0.005
    """

    steps: int = 400  # how many updates
    batch_size: int = 16  # B: windows or pairs in one batch
    grad_accum_steps: int = 1  # how many batches make one update
    learning_rate: float = 0.005  # the largest one
    min_learning_rate: float = 0.0005  # the one at the end
    warmup_steps: int = 0  # steps of climbing to the largest
    schedule: str = "cosine"  # cosine, constant or wsd (warm-up, stable, decay)
    optimizer: str = "adamw"  # adamw, or muon for the matrices of the blocks
    beta1: float = 0.9  # how slowly Adam's average of the gradients forgets
    beta2: float = 0.999  # how slowly its average of their squares does
    weight_decay: float = 0.0  # pull of every matrix towards zero
    max_grad_norm: float = 1.0  # longest gradient allowed
    precision: str = "fp32"  # of the matrix products: fp32, bf16 or fp16
    compile: bool = False  # True: torch.compile makes the model faster, after a minute's work
    fused: bool = False  # True: PyTorch's AdamW, in one pass over the memory, instead of ours
    loss_chunk_size: int | None = (
        None  # the head and the loss for so many tokens at a time; None: all
    )
    eval_every: int = 0  # steps between two looks at the held-out text; 0: none
    patience: int = 0  # stop after so many looks without a new best; 0: never
    save_every: int = 0  # steps between two checkpoints; 0: only the last one, and the best
    keep: int = 2  # how many of the newest checkpoints stay, besides the best
    seed: int = 0  # of the initial parameters and of the order of the data

    def __post_init__(self) -> None:
        for name, least in INTEGERS.items():
            check_field(
                self, name, int, f"an integer of at least {least}", lambda v, m=least: v >= m
            )
        check_field(self, "seed", int, "an integer from 0 to 2**63 - 1", lambda v: 0 <= v < 2**63)
        for name in ("learning_rate", "max_grad_norm"):
            check_field(self, name, float, "above 0 and finite", lambda v: 0 < v < math.inf)
        for name in ("min_learning_rate", "weight_decay"):
            check_field(self, name, float, "0 or more and finite", lambda v: 0 <= v < math.inf)
        if self.min_learning_rate > self.learning_rate:
            what = f"min_learning_rate = {self.min_learning_rate!r} is above learning_rate"
            what += f" = {self.learning_rate!r}"
            remedy = "Lower it, or raise learning_rate."
            raise LessonsError(what, where="TrainConfig.min_learning_rate", remedy=remedy)
        for name in ("beta1", "beta2"):
            check_field(self, name, float, "from 0 to below 1", lambda v: 0 <= v < 1)
        for name, known in CHOICES.items():
            check_field(self, name, str, f"one of {', '.join(known)}", lambda v, k=known: v in k)
        for name in ("compile", "fused"):
            check_field(self, name, bool, "true or false", lambda v: True)
        if self.loss_chunk_size is not None:
            check_field(
                self, "loss_chunk_size", int, "null or an integer of at least 1", lambda v: v > 0
            )

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values; `TrainConfig.from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "TrainConfig") -> "TrainConfig":
        """The inverse of `to_dict`; unknown keys raise `LessonsError`."""
        return config_from_dict(cls, values, where)


INTEGERS = {  # the least that each may be
    **{"steps": 1, "batch_size": 1, "grad_accum_steps": 1, "keep": 1},
    **{"warmup_steps": 0, "eval_every": 0, "patience": 0, "save_every": 0},
}


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
        "python-small": TrainConfig(
            steps=3600,
            batch_size=16,
            learning_rate=3e-3,
            min_learning_rate=1e-4,
            warmup_steps=100,
            beta2=0.95,
            weight_decay=0.1,
            precision="bf16",
            compile=True,
            fused=True,
            loss_chunk_size=1024,
            eval_every=300,
            save_every=300,
        ),
    }
    if name not in presets:
        remedy = f"Known presets: {', '.join(sorted(presets))}."
        raise LessonsError(f"unknown preset {name!r}", remedy=remedy)
    return presets[name]
