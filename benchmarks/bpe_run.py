"""Byte-pair encoding: who is measured against whom. Writes its tables into book/benchmarks.md.

python -m benchmarks.bpe_run            all tables, medians of 5 rounds
python -m benchmarks.bpe_run --tiny     the same on very little text, printed and not written
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks import bpe, bpe_ties
from benchmarks.command import measure_sections
from benchmarks.contest import Contestant, Results, run_contest
from benchmarks.corpus import HOSTILE, python_text
from benchmarks.machine import describe_machine
from benchmarks.page import table
from benchmarks.summary import growth_exponent, middle_and_range, ratios

PACKAGES = ("transformer_lessons", "tiktoken", "tokenizers", "rustbpe", "regex")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    n_rounds: int = 5
    n_bytes: int = 10_000_000  # of text to encode, and to learn 4,096 tokens from
    vocab_size: int = 4_096
    n_bytes_large: int = 30_000_000
    vocab_size_large: int = 32_768
    n_bytes_naive: int = 100_000
    vocab_size_naive: int = 768
    hostile: tuple[int, ...] = (62_500, 250_000, 1_000_000)


TINY = Sizes(1, 20_000, 300, 30_000, 320, 2_000, 270, (500, 1_000))


def task(name: str, function: str, threads: int = 1, **arguments: object) -> Contestant:
    """A contestant whose function is in `benchmarks.bpe`."""
    return Contestant(name, "benchmarks.bpe", function, arguments, threads)


def training_contest(n_bytes: int, vocab_size: int) -> list[Contestant]:
    """Who learns merges. Two cores for each but the one that says otherwise."""
    work = {"n_bytes": n_bytes, "vocab_size": vocab_size}
    return [
        task("Hugging Face tokenizers", "train_huggingface", threads=2, **work),
        task("rustbpe", "train_rustbpe", threads=2, **work),
        task("ours, 2 processes split", "train_ours", n_workers=2, **work),
        task("ours, 1 process", "train_ours", **work),
    ]


def naive_contest(n_bytes: int, vocab_size: int) -> list[Contestant]:
    """Counting anew for each merge, as minbpe does, and keeping counts."""
    work = {"n_bytes": n_bytes, "vocab_size": vocab_size}
    return [
        task("ours, naive: all pairs counted for each merge", "train_naively", **work),
        task("ours, heap", "train_ours", **work),
    ]


def encoding_contest(
    n_bytes: int, vocab: bpe.Vocab, accented: bool = False, rust: bool = False
) -> list[Contestant]:
    """Who encodes, with one thread; `rust`, if the vocabulary is one that rustbpe has learned."""
    work = {"n_bytes": n_bytes, "vocab": vocab, "accented": accented}
    contestants = [
        task("tiktoken", "encode_tiktoken", **work),
        task("ours, `to_tiktoken()`", "encode_to_tiktoken", **work),
        task("ours, no pre-token seen before", "encode_ours", **work),
        task("ours, pre-tokens remembered", "encode_ours", remember=True, **work),
        task("tokenizers, in pieces", "encode_huggingface", in_pieces=True, **work),
    ]
    if not accented:
        contestants.append(
            task("tokenizers, one text", "encode_huggingface", in_pieces=False, **work)
        )
    if rust:
        contestants.append(task("rustbpe", "encode_rustbpe", n_bytes=n_bytes, vocab=vocab))
    return contestants


def rows_of(results: Mapping[str, Results], base: str, n_bytes: int) -> list[list[str]]:
    """A row for each contestant: time, rate, processor time, both against `base`, and memory."""
    rows, base_runs = [], results[base].runs
    for name, result in results.items():
        seconds = [run.wall for run in result.runs]
        rate = n_bytes / median(seconds) / 1e6
        rows.append(
            [
                name,
                middle_and_range(seconds),
                f"{rate:.1f}" if rate >= 0.1 else f"{rate:.3f}",
                f"{median(run.cpu for run in result.runs):.2f}",
                middle_and_range(ratios("wall", result.runs, base_runs)),
                f"{median(ratios('cpu', result.runs, base_runs)):.2f}",
                f"{result.peak:.0f}",
            ]
        )
    return rows


def contest_table(contestants: Sequence[Contestant], n_rounds: int, n_bytes: int) -> str:
    """The table of a contest, in which the first contestant is what the others are compared to."""
    base = contestants[0].name
    results = run_contest(contestants, n_rounds)
    header = [
        "program",
        "seconds",
        "MB/s",
        "CPU s",
        "time ÷ first row's",
        "CPU ÷ first row's",
        "MB taken",
    ]
    return table(header, rows_of(results, base, n_bytes))


def ties_text(n_bytes: int, vocab_size: int) -> str:
    """Where each peer's merges part from ours, which must be at a tie."""
    from transformer_lessons.tokenizers.bpe_training import count_pretokens

    pretokens = count_pretokens([python_text(n_bytes)], n_workers=2)
    ours = bpe.train_ours(n_bytes, vocab_size).run().merges
    sentences = []
    for name, train, merges_of in (
        ("rustbpe", bpe.train_rustbpe, bpe_ties.merges_of_rustbpe),
        ("Hugging Face's", bpe.train_huggingface, bpe_ties.merges_of_huggingface),
    ):
        theirs = merges_of(train(n_bytes, vocab_size).run())
        place = bpe_ties.agree_until_a_tie(pretokens, ours, theirs)
        shared = len({a + b for a, b in ours} & {a + b for a, b in theirs})
        sentences.append(
            f"{name} merges are ours up to merge {place:,}, where two pairs are equally frequent; "
            f"of the {len(ours):,} tokens learned, {shared:,} are the same."
        )
    return " ".join(sentences)


def hostile_table(sizes: Sequence[int], n_rounds: int) -> str:
    """Seconds for the longest of each kind, and the exponent of growth over all `sizes`."""
    programs = ("ours", "tiktoken", "ours, training")
    header = [f"{max(sizes):,} characters of"]
    for name in ("ours, encoding", "tiktoken, encoding", "ours, training"):
        header += [f"{name}, s", "growth"]
    rows = []
    for kind in HOSTILE:
        row = [kind]
        for program in programs:
            work = bpe.hostile(program, kind, sizes)
            rounds = list(zip(*(work.run() for _ in range(n_rounds)), strict=True))
            if any(None in seconds for seconds in rounds):
                row += ["raises", ""]
                continue
            seconds = [median(some) for some in rounds]
            row += [f"{seconds[-1]:.2f}", f"{growth_exponent(sizes, seconds):.2f}"]
        rows.append(row)
    return table(header, rows)


def sections(tiny: bool) -> dict[str, Callable[[], str]]:
    """Each section's name in the page, and what measures its new content."""
    sizes = TINY if tiny else Sizes()
    small, large = (sizes.n_bytes, sizes.vocab_size), (sizes.n_bytes_large, sizes.vocab_size_large)
    naive = (sizes.n_bytes_naive, sizes.vocab_size_naive)
    contests = {
        "bpe-training": (training_contest(*small), small[0]),
        "bpe-training-large": (training_contest(*large), large[0]),
        "bpe-training-naive": (naive_contest(*naive), naive[0]),
        "bpe-encoding": (encoding_contest(small[0], "cl100k_base"), small[0]),
        "bpe-encoding-own": (encoding_contest(small[0], large, rust=True), small[0]),
        "bpe-encoding-accented": (encoding_contest(small[0], "cl100k_base", True), small[0]),
    }
    found = {"machine": lambda: describe_machine(PACKAGES, n_threads=2)}
    for name, (contestants, n_bytes) in contests.items():
        found[name] = partial(contest_table, contestants, sizes.n_rounds, n_bytes)
    found["bpe-ties"] = partial(ties_text, *small)
    found["bpe-hostile"] = partial(hostile_table, sizes.hostile, min(sizes.n_rounds, 3))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sections asked for, and write each into the page as soon as it is there."""
    measure_sections("Measure byte-pair encoding.", sections, arguments)


if __name__ == "__main__":
    main()
