"""What can be asked of `train` and `finetune`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from transformer_lessons.cli.options.data import DataOptions
from transformer_lessons.cli.options.models import SMALL
from transformer_lessons.config import CountOrZero, ModelConfig, Positive, check_fields
from transformer_lessons.presets import preset
from transformer_lessons.training.config import TrainConfig, train_preset

CHOICES = TrainConfig(steps=32, batch_size=8, learning_rate=2e-3, min_learning_rate=2e-4,
                      warmup_steps=4, precision="bf16", eval_every=16)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """Where a run is kept, and whether it goes on."""

    out: Path = Path("runs/latest")
    """The run folder; it must not hold a checkpoint yet, but for --resume."""
    resume: bool = False
    """Go on with the run in --out, with all its choices, as if it had never stopped."""


@dataclass(frozen=True)
class First(RunFolder):
    """Options of `train` that give others their defaults."""

    preset: str = "fluctlight"
    """The model to start from, and choices that suit it: fluctlight, bytes-1m, python-small, llama,
    gpt, gpt2, smollm2-135m or llama3.2-1b."""
    config: Path | None = None
    """A JSON file with "model" and "training"; what it leaves out is as in the preset."""


@dataclass(frozen=True)
class Train(First):
    """Train a model on pairs of texts, or on documents of any kind."""

    source: Annotated[DataOptions, tyro.conf.arg(name="")] = field(default_factory=DataOptions)
    workers: int = 0
    """Processes that encode, and that read ahead; 0: none."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    shard: bool = False
    """With torchrun: each process holds a share of the model (FSDP2), not all of it (DDP)."""
    timeout: Positive = 600.0
    """With torchrun: seconds after which a process that doesn't answer ends the run."""
    model: ModelConfig = field(default_factory=lambda: preset("fluctlight"))
    """Sizes and choices of the model; the defaults come from the preset."""
    training: TrainConfig = field(default_factory=lambda: train_preset("fluctlight"))
    """Choices of the run; the defaults come from the preset."""


@dataclass(frozen=True)
class Choices:
    """What is learned, by which model; a run that is resumed has them from its folder."""

    model: str = SMALL
    """What to start from: python-small, smollm2-135m, or a folder or file as for `generate`."""
    data: str | None = None
    """A file with a conversation a line: {"messages": [{"role": "user", "content": "…"}, …]}."""
    held_out: str | None = None
    """Judge by another such file; without it, the last tenth of --data is held out."""
    template: str | None = None
    """A file with a chat template (Jinja). By default the model's own; for a model that has none,
    a question becomes "# question", and the line after it is the answer."""
    lora_rank: CountOrZero = 4
    """The rank of the LoRA adapters; 0: none, all weights of the model are trained."""
    lora_alpha: Positive | None = None
    """What the adapters add is multiplied by alpha / rank; by default alpha is 4 x rank."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Finetune(RunFolder):
    """Train a model further, on conversations: by LoRA, two thin matrices beside each, or whole."""

    source: Annotated[Choices, tyro.conf.arg(name="")] = field(default_factory=Choices)
    export: Path | None = None
    """Write the result here as well, as one model: a Hugging Face folder, adapters merged in."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    training: TrainConfig = CHOICES
    """Choices of the run."""
