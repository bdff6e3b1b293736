"""`demo`: a complete language model learns in front of you, and then writes."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import tyro

import transformer_lessons as tl
from transformer_lessons.cli import PlainConsole, check_seed
from transformer_lessons.cli.display import TrainingDisplay, bar, visible
from transformer_lessons.errors import LessonsError
from transformer_lessons.presets import preset
from transformer_lessons.training.config import train_preset


@dataclass(frozen=True)
class Demo:
    """Watch the model with 2,656 parameters learn a short text that repeats, then let it write."""

    text: str = "ab"
    """What repeats. The default is learned in seconds; longer texts may be too much for it."""
    steps: int = train_preset("fluctlight").steps
    """Training steps."""
    seed: int = 0
    """Another seed starts from other random numbers."""
    pause: float = 0.06
    """Seconds to wait after each refresh of the screen, so that you can watch."""


def run(arguments: Sequence[str]) -> int:
    """Train, then write; returns the exit code."""
    options = tyro.cli(Demo, args=arguments, prog="python -m transformer_lessons demo")
    cycle = os.fsencode(options.text)  # the bytes as they were typed
    if not cycle:
        raise LessonsError("--text is empty", remedy="Give one character or more.")
    if not 0 <= options.pause <= 10:
        what = f"pause = {options.pause} is not from 0 to 10 seconds"
        raise LessonsError(what, where="--pause")
    check_seed(options.seed)
    console = PlainConsole()
    write(train(cycle, options, console), cycle, console, options.pause)
    return 0


def train(cycle: bytes, options: Demo, console: PlainConsole) -> "tl.Decoder":
    """A model that is trained on `cycle`, again and again, on display."""
    import torch  # here: a refused option must not wait for it

    from transformer_lessons.data.batches import random_windows

    torch.set_num_threads(1)  # the model is too small to share out
    torch.manual_seed(options.seed)
    model = tl.Decoder(preset("fluctlight"))
    n_parameters = tl.count_parameters(model)
    console.print(f'A model with {n_parameters:,} parameters meets "{visible(cycle)}…"')
    tokens = torch.tensor(list(cycle * math.ceil(256 / len(cycle))))
    config = replace(train_preset("fluctlight"), steps=options.steps, seed=options.seed)
    batches = random_windows(tokens, model.config.context_length, config.batch_size, config.seed)
    levels = {"ln 256: knows nothing": math.log(256)}
    if (n_different := len(set(cycle))) > 1:
        levels[f"ln {n_different}: knows which bytes"] = math.log(n_different)

    def sample() -> str:
        written = bytes(tl.stream(model, cycle, 30, tl.Sampler(temperature=0)))
        return f"{visible(cycle)} -> {visible(written)}"

    with TrainingDisplay(console, config.steps, sample, levels, options.pause) as display:
        tl.Trainer(model, config, batches, on_step=display).fit()
    return model


def write(model: "tl.Decoder", cycle: bytes, console: PlainConsole, pause: float) -> None:
    """Let `model` go on from `cycle`, one byte a line with its probability, then all at once."""
    from transformer_lessons.generation.generate import stream_batch

    console.print(f'\nAfter "{visible(cycle)}", with the probability of each byte:')
    written = b""
    for _, token, logits in stream_batch(model, [cycle], 8, tl.Sampler(0.2)):
        written += bytes([token])
        text, probability = visible(cycle + written), logits.softmax(dim=-1)[token].item()
        console.print(f"  {text:<14} {bar(probability)} {probability:7.2%}")
        if console.is_terminal:
            time.sleep(pause)
    more = bytes(tl.stream(model, cycle + written, 40, tl.Sampler(0.2)))
    console.print(f"\n  {visible(cycle + written + more)}…")
