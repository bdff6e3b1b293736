"""How costs grow: training, preparing text, learning a tokenizer, saving. Ours alone, one thread.

python -m benchmarks.growth_run           the table, least of 3 tries each
python -m benchmarks.growth_run --tiny    the same on very little work, printed and not written
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.command import measure_sections
from benchmarks.corpus import python_text
from benchmarks.models import our_model
from benchmarks.page import table
from benchmarks.summary import growth_exponent
from benchmarks.training import step_of
from benchmarks.training_model import Shape, shape_of, starting_weights

N_TRIES = 3


@dataclass(frozen=True)
class Cost:
    """A work for each of some sizes, all else being equal."""

    what: str
    unit: str
    sizes: Sequence[int]
    work: Callable[[int], Callable[[], object]]


def cpu_seconds(work: Callable[[], object]) -> float:
    """The least processor time of `N_TRIES` runs, after one that is not counted."""
    work()
    seconds = []
    for _ in range(N_TRIES):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def training_step(shape: Shape, **changes: int) -> Callable[[], object]:
    """One eager step in float32 of the GPT-style model, with some of its sizes changed."""
    shape = replace(shape, **changes)
    return step_of(shape, "fp32", compiled=False, n_steps=1, loss_chunk_size=512).run


def preparing(folder: Path, n_bytes: int) -> Callable[[], object]:
    """The command `prepare` on one document a kilobyte."""
    from transformer_lessons.cli.main import main

    text = python_text(n_bytes)
    documents = folder / f"{n_bytes}"
    documents.mkdir()
    for i in range(0, len(text), 1_000):
        (documents / f"{i}.txt").write_text(text[i : i + 1_000], encoding="utf-8")
    outs = (str(folder / f"out-{n_bytes}-{i}") for i in range(N_TRIES + 1))
    return lambda: main(["prepare", str(documents), "--out", next(outs)])


def learning(vocab_size: int, n_bytes: int) -> Callable[[], object]:
    """`BPETokenizer.train` on so many bytes."""
    from transformer_lessons.tokenizers.bpe import BPETokenizer

    text = python_text(n_bytes)
    return lambda: BPETokenizer.train(text, vocab_size)


def saving(folder: Path, shape: Shape, vocab_size: int) -> Callable[[], object]:
    """`save_checkpoint` of a model whose size is its embedding's."""
    from transformer_lessons.training.checkpoint import save_checkpoint

    shape = replace(shape, vocab_size=vocab_size)
    model = our_model(shape, starting_weights(shape))
    steps = iter(range(1, N_TRIES + 2))
    return lambda: save_checkpoint(folder / str(vocab_size), next(steps), model)


def costs(tiny: bool, folder: Path) -> Iterator[Cost]:
    """What is measured; the tiny form has a hundredth of the work."""
    shape = shape_of("tiny" if tiny else "S", "gpt")
    step = partial(training_step, shape)
    sizes = (1, 2, 4) if tiny else (8, 16, 32, 64)
    yield Cost("a training step", "sequences", sizes, lambda n: step(batch_size=n))
    sizes = (4, 8) if tiny else (64, 128, 256, 512)
    yield Cost("the same", "tokens in a sequence", sizes, lambda n: step(context_length=n))
    sizes = (65, 130) if tiny else (4_096, 8_192, 16_384, 32_768)
    yield Cost("the same", "tokens in the vocabulary", sizes, lambda n: step(vocab_size=n))
    sizes = (5_000, 10_000) if tiny else (500_000, 1_000_000, 2_000_000)
    yield Cost("`prepare`", "bytes", sizes, partial(preparing, folder))
    yield Cost("learning a tokenizer", "bytes", sizes, partial(learning, 300 if tiny else 4_096))
    sizes = (1_000, 2_000) if tiny else (50_000, 100_000, 200_000, 400_000)
    rows = replace(shape, n_layers=1)
    yield Cost("saving a checkpoint", "rows of its embedding", sizes, partial(saving, folder, rows))


def growth_table(tiny: bool) -> str:
    """For each cost the sizes, milliseconds, and the exponent p of time ~ size^p."""
    import torch

    torch.set_num_threads(1)
    rows = []
    with TemporaryDirectory() as folder, redirect_stdout(sys.stderr):  # `prepare` reports
        for cost in costs(tiny, Path(folder)):
            seconds = [cpu_seconds(cost.work(size)) for size in cost.sizes]
            sizes = " / ".join(f"{size:,}" for size in cost.sizes)
            times = " / ".join(f"{1000 * second:,.0f}" for second in seconds)
            exponent = f"{growth_exponent(cost.sizes, seconds):.2f}"
            rows.append([f"{cost.what}, by {cost.unit}", sizes, times, exponent])
    return table(["work", "sizes", "CPU ms", "exponent"], rows)


def sections(tiny: bool) -> Mapping[str, Callable[[], str]]:
    """The only section."""
    return {"growth": partial(growth_table, tiny)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the table into the page."""
    measure_sections("Measure how costs grow.", sections, arguments)


if __name__ == "__main__":
    main()
