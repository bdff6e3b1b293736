"""How a model is trained: every choice of a run that is not the model's own. Lesson 13."""

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from transformer_lessons.config import (
    BelowOne,
    Count,
    CountOrZero,
    NotNegative,
    Positive,
    Seed,
    check_fields,
    config_from_dict,
    one_of,
)
from transformer_lessons.errors import LessonsError

ScheduleKind = Annotated[str, one_of("cosine", "constant", "wsd")]
OptimizerKind = Annotated[str, one_of("adamw", "muon")]
Precision = Annotated[str, one_of("fp32", "bf16", "fp16")]


@dataclass(frozen=True)
class TrainConfig:
    """The choices of a training run. Impossible values raise `LessonsError`, naming the field.

    >>> TrainConfig(steps=100).learning_rate
    0.005
    """

    steps: Count = 400  # how many updates
    sequence_length: Count | None = None  # T: tokens in a window; None: as many as the model sees
    batch_size: Count = 16  # B: windows or pairs in one batch
    grad_accum_steps: Count = 1  # how many batches make one update
    learning_rate: Positive = 0.005  # the largest one
    min_learning_rate: NotNegative = 0.0005  # the one at the end
    warmup_steps: CountOrZero = 0  # steps of climbing to the largest
    schedule: ScheduleKind = "cosine"  # cosine, constant or wsd (warm-up, stable, decay)
    optimizer: OptimizerKind = "adamw"  # adamw, or muon for the matrices of the blocks
    beta1: BelowOne = 0.9  # how slowly Adam's average of the gradients forgets
    beta2: BelowOne = 0.999  # how slowly its average of their squares does
    weight_decay: NotNegative = 0.0  # pull of every matrix towards zero
    max_grad_norm: Positive = 1.0  # longest gradient allowed
    precision: Precision = "fp32"  # of the matrix products: fp32, bf16 or fp16
    compile: bool = False  # True: torch.compile makes the model faster, after a minute's work
    fused: bool = False  # True: PyTorch's AdamW, in one pass over the memory, instead of ours
    loss_chunk_size: Count | None = None  # head and loss for so many tokens at a time; None: all
    eval_every: CountOrZero = 0  # steps between two evaluations on held-out text; 0: none
    patience: CountOrZero = 0  # stop after so many evaluations without a new best; 0: never
    save_every: CountOrZero = 0  # steps between two checkpoints; 0: only the last one, and the best
    keep: Count = 2  # how many of the newest checkpoints stay, besides the best
    seed: Seed = 0  # of the initial parameters and of the order of the data

    def __post_init__(self) -> None:
        check_fields(self)
        if self.min_learning_rate > self.learning_rate:
            what = f"min_learning_rate = {self.min_learning_rate!r} is above learning_rate"
            where = "TrainConfig.min_learning_rate"
            raise LessonsError(f"{what} = {self.learning_rate!r}", where=where)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values; `TrainConfig.from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "TrainConfig") -> "TrainConfig":
        """The inverse of `to_dict`; unknown keys raise `LessonsError`."""
        return config_from_dict(cls, values, where)


def train_preset(name: str) -> TrainConfig:
    """Training choices that suit the model preset of the same name.

    >>> train_preset("fluctlight").steps, train_preset("gpt").sequence_length
    (400, 128)
    """
    small = TrainConfig(learning_rate=3e-3, min_learning_rate=1e-4, warmup_steps=100, beta2=0.95,
                        weight_decay=0.1, precision="bf16", fused=True, loss_chunk_size=1024,
                        eval_every=300, save_every=300)  # fmt: skip
    muon = replace(small, optimizer="muon", learning_rate=6e-3)
    wide = replace(small, learning_rate=6e-4, min_learning_rate=6e-5, batch_size=8, eval_every=50,
                   grad_accum_steps=16, loss_chunk_size=128, save_every=50)  # fmt: skip
    presets = {
        "fluctlight": TrainConfig(),
        "bytes-1m": TrainConfig(
            steps=800, learning_rate=3e-3, min_learning_rate=3e-4, warmup_steps=50, weight_decay=0.1
        ),
        "python-small": replace(muon, steps=10_000, compile=True),
        "llama": replace(small, steps=2000),
        "gpt": replace(wide, steps=600, sequence_length=128),
        "gpt2": replace(wide, steps=10_000),
        "smollm2-135m": replace(wide, steps=10_000, sequence_length=2048),
        "llama3.2-1b": replace(wide, steps=10_000, sequence_length=2048),
    }
    if name not in presets:
        known = ", ".join(sorted(presets))
        raise LessonsError(f"unknown preset {name!r}", remedy=f"Known presets: {known}.")
    return presets[name]
