"""`demo`: a complete language model learns in front of you, and then shows what it can."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import transformer_lessons as tl
from transformer_lessons import cli
from transformer_lessons.cli.display import TrainingDisplay, bar, visible
from transformer_lessons.config import Allowed, Count, Seed, one_of
from transformer_lessons.errors import LessonsError
from transformer_lessons.presets import preset
from transformer_lessons.training.config import train_preset

Pause = Annotated[float, Allowed("from 0 to 10 seconds", lambda v: 0 <= v <= 10)]
Rule = Annotated[int, Allowed("from 0 to 255", lambda v: 0 <= v <= 255)]


@dataclass(frozen=True)
class Demo:
    """Watch the model with 2,656 parameters learn a short text that repeats, then let it write.

    Or a slightly larger one, another domain: a cellular automaton, or moves of tic-tac-toe.
    """

    domain: Annotated[str, one_of("text", "automaton", "game")] = "text"
    """What is learned: text, automaton or game."""
    text: str = "ab"
    """What repeats. The default is learned in seconds; longer texts may be too much for it."""
    rule: Rule = 110
    """The number of the elementary automaton, from 0 to 255."""
    steps: Count | None = None
    """Training steps; by default, as many as the domain needs."""
    seed: Seed = 0
    """Another seed starts from other random numbers."""
    pause: Pause = 0.06
    """Seconds to wait after each refresh of the screen, so that you can watch."""


def run(arguments: Sequence[str]) -> int:
    """Train, then show; returns the exit code."""
    options = cli.parse(Demo, arguments, "demo")
    cycle = os.fsencode(options.text)  # the bytes as they were typed
    if not cycle:
        raise LessonsError("--text is empty", remedy="Give one character or more.")
    import torch  # here: a refused option must not wait for it

    torch.set_num_threads(1)  # the models are too small to share out
    if options.domain == "text":
        repeat(cycle, options, cli.PlainConsole())
    else:
        answer(options, cli.PlainConsole())
    return 0


def repeat(cycle: bytes, options: Demo, console: cli.PlainConsole) -> None:
    """Learn `cycle`, again and again; then go on from it."""
    import torch

    from transformer_lessons.data.batches import random_windows

    torch.manual_seed(options.seed)
    model, config = tl.Decoder(preset("fluctlight")), train_preset("fluctlight")
    config = replace(config, steps=options.steps or config.steps, seed=options.seed)
    n_parameters = tl.count_parameters(model)
    console.print(f'A model with {n_parameters:,} parameters meets "{visible(cycle)}…"')
    tokens = torch.tensor(list(cycle * math.ceil(256 / len(cycle))))
    batches = random_windows(tokens, model.config.context_length, config.batch_size, config.seed)
    levels = {"ln 256: knows nothing": math.log(256)}
    if (n_different := len(set(cycle))) > 1:
        levels[f"ln {n_different}: knows which bytes"] = math.log(n_different)

    def sample() -> str:
        written = bytes(tl.stream(model, cycle, 30, tl.Sampler(temperature=0)))
        return f"{visible(cycle)} -> {visible(written)}"

    with TrainingDisplay(console, config.steps, sample, levels, options.pause) as display:
        tl.Trainer(model, config, batches, on_step=display).fit()
    write(model, cycle, console, options.pause)


def write(model: "tl.Decoder", cycle: bytes, console: cli.PlainConsole, pause: float) -> None:
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


def answer(options: Demo, console: cli.PlainConsole) -> None:
    """Learn the answers of a domain; then say how many are right, also of those held back."""
    import torch

    from transformer_lessons.cli.domains import automaton, game, shares
    from transformer_lessons.data.pairs import pair_batches

    domain = automaton(options.rule) if options.domain == "automaton" else game()
    learned, held_back = domain.split()
    torch.manual_seed(options.seed)
    model, training = tl.Decoder(domain.model), domain.training
    training = replace(training, steps=options.steps or training.steps, seed=options.seed)
    console.print(f"A model with {tl.count_parameters(model):,} parameters meets {domain.about}")
    pairs = [(question.prompt, min(question.right)) for question in learned]
    sizes = model.config.context_length, training.batch_size, training.seed

    def sample() -> str:
        question = held_back[len(held_back) // 2]
        n = len(min(question.right))
        written = bytes(tl.stream(model, question.prompt, n, tl.Sampler(temperature=0)))
        return f"{visible(question.prompt)} -> {visible(written)}"

    levels = {"ln 256: knows nothing": math.log(256)}
    with TrainingDisplay(console, training.steps, sample, levels, options.pause) as display:
        tl.Trainer(model, training, pair_batches(pairs, *sizes), on_step=display).fit()
    for name, questions in (("learned", learned), ("held back", held_back)):
        right, allowed = shares(model, questions)
        console.print(f"{name}: of {len(questions)}, {right:.0%} right, {allowed:.0%} allowed")
