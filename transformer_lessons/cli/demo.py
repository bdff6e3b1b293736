"""`demo`: a complete language model learns in front of you, and then shows what it can."""

import math
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

import transformer_lessons as tl
from transformer_lessons import cli
from transformer_lessons.cli.display import TrainingDisplay, bar, visible
from transformer_lessons.cli.domains import automaton, game, shares, undecided
from transformer_lessons.cli.options.models import Demo
from transformer_lessons.data import pair_batches, random_windows
from transformer_lessons.generation import stream_batch
from transformer_lessons.presets import preset
from transformer_lessons.training.config import TrainConfig, train_preset

TOO_LONG = b"a" * 20 + b"b"  # more equal bytes in a row than the model with 2,656 parameters sees


def run(options: Demo) -> int:
    """Train, then show; returns the exit code."""
    torch.set_num_threads(1)  # the models are too small to share out
    if options.domain == "text":
        repeat(os.fsencode(options.text), options, cli.PlainConsole())  # the bytes as typed
    else:
        answer(options, cli.PlainConsole())
    return 0


def train_on_display(
    config: tl.ModelConfig, training: TrainConfig, data: Iterable[Any], about: str,
    asked: tuple[bytes, int], options: Demo, console: cli.PlainConsole,
) -> tl.Decoder:  # fmt: skip
    """A new model that has learned `data` on display, where it goes on from what is `asked`."""
    torch.manual_seed(options.seed)
    model, (prompt, n_new) = tl.Decoder(config), asked
    console.print(f"A model with {tl.count_parameters(model):,} parameters meets {about}")

    def sample() -> str:
        written = bytes(tl.stream(model, prompt, n_new, tl.Sampler(temperature=0)))
        return f"{visible(prompt)} -> {visible(written)}"

    levels = {"ln 256: knows nothing": math.log(256)}
    with TrainingDisplay(console, training.steps, sample, levels, options.pause) as display:
        tl.Trainer(model, training, data, on_step=display).fit()
    return model


def repeat(cycle: bytes, options: Demo, console: cli.PlainConsole) -> None:
    """Learn `cycle`, again and again; then go on from it, and say what can't be learned of it."""
    config, training = preset("fluctlight"), train_preset("fluctlight")
    training = replace(training, steps=options.steps or training.steps, seed=options.seed)
    n_seen, text = config.context_length, cycle * math.ceil(256 / len(cycle))
    data = random_windows(torch.tensor(list(text)), n_seen, training.batch_size, training.seed)
    about = f'"{visible(cycle)}…"'
    model = train_on_display(config, training, data, about, (cycle, 30), options, console)
    twice, ends = text + cycle, range(len(text), len(text) + len(cycle))
    prompts = [twice[max(end - n_seen, 0) : end] for end in ends]
    made = [next(tl.stream(model, prompt, 1, tl.Sampler(temperature=0))) for prompt in prompts]
    n_right = sum(token == twice[end] for token, end in zip(made, ends, strict=True))
    console.print(f"next bytes: of {len(cycle)}, {n_right} right")
    open_here, open_there = (undecided(one, n_seen) for one in (cycle, TOO_LONG))
    console.print(f"It sees {n_seen} bytes at once. They leave {open_here} of these open, and of a")
    console.print(f"longer text, {visible(TOO_LONG)}, {open_there}: no training can help there.")
    write(model, cycle, console, options.pause)


def write(model: tl.Decoder, cycle: bytes, console: cli.PlainConsole, pause: float) -> None:
    """Let `model` go on from `cycle`, one byte a line with its probability, then all at once."""
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
    """Learn the answers of a domain; then say how many are right, also of those not learned."""
    domain = automaton(options.rule) if options.domain == "automaton" else game()
    learned, held_back = domain.split()
    training = replace(domain.training, seed=options.seed)
    training = replace(training, steps=options.steps or training.steps)
    pairs = [(question.prompt, min(question.right)) for question in learned]
    sizes = domain.model.context_length, training.batch_size, training.seed
    question = held_back[len(held_back) // 2]
    asked = question.prompt, len(min(question.right))
    data = pair_batches(pairs, *sizes)
    model = train_on_display(domain.model, training, data, domain.about, asked, options, console)
    for name, questions in {"learned": learned, "held back": held_back, **domain.beyond}.items():
        right, allowed = shares(model, questions)
        console.print(f"{name}: of {len(questions)}, {right:.0%} right, {allowed:.0%} allowed")
