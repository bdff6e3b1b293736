"""The training step: who is measured against whom. Writes its tables into book/benchmarks.md.

python -m benchmarks.training_run           all tables, medians of 5 rounds
python -m benchmarks.training_run --tiny    the same on a very small model, printed, not written
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.command import measure_sections
from benchmarks.contest import Contestant, Results, run_contest
from benchmarks.machine import describe_machine, matmul_limit
from benchmarks.page import table
from benchmarks.summary import middle_and_range, ratios
from benchmarks.training import TOLERANCE, same_steps
from benchmarks.training_model import shape_of
from benchmarks.training_plot import MEMORY_KEPT
from benchmarks.training_profile import profile_table

PACKAGES = ("transformer_lessons", "torch", "transformers")
LITGPT = Path(__file__).resolve().parents[1] / "_build" / "litgpt" / "bin" / "python"
WITHOUT_LITGPT = "LitGPT is missing here: its environment could not be installed."
LOSS_ROWS = 512  # what ours has in the tables against peers
N_STEPS = {"S": 4, "M": 1, "tiny": 2}  # of a run
# What `keep_memory` sets, as glibc reads it from the environment: for peers as well as for ours.
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2147483647"}
KEPT_IN = "bf16"  # in both precisions, the whole would take more than an hour
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
MAIN = ("compiled", "bf16")
IF_KEPT = "CPU ÷ best peer's, memory kept"
HEADER = [
    "program",
    "ms a step",
    "tokens/s",
    "CPU ms",
    "time ÷ best peer's",
    "CPU ÷ best peer's",
    IF_KEPT,
    "share of the matmul limit",
    "MB taken",
]


def contest(size: str, kind: str, precision: str, compiled: bool) -> list[Contestant]:
    """Who takes the step, each with one thread, as it comes and, in bf16, with memory kept.

    What isn't ours is a peer. Compiled, transformers also takes its own attention in place of
    PyTorch's fused one (SDPA), which is slower for short sequences.
    """
    how = {"size": size, "kind": kind, "precision": precision, "compiled": compiled}
    how["n_steps"] = N_STEPS[size]
    module, name = "benchmarks.training", {"gpt": "GPT-2", "llama": "Llama"}[kind]
    contestants = [Contestant(f"{name}, transformers", module, "huggingface", how)]
    if compiled:
        other = f"{name}, transformers, eager attention"
        contestants.append(Contestant(other, module, "huggingface", how | {"attention": "eager"}))
    if kind == "llama" and LITGPT.is_file():
        contestants.append(Contestant("Llama, LitGPT", module, "litgpt", how, python=str(LITGPT)))
    mine = how | {"loss_chunk_size": LOSS_ROWS}
    contestants.append(Contestant(f"{name}, ours", module, "ours", mine))
    kept = contestants if precision == KEPT_IN else []
    return contestants + [
        replace(one, name=f"{one.name}, {MEMORY_KEPT}", environment=KEPT) for one in kept
    ]


def rows_of(results: Mapping[str, Results], flops: int, n_tokens: int, limit: float) -> list:
    """A row for each contestant. `flops` and `n_tokens` are those of a run, `limit` is GFLOP/s.

    The best peer is the one whose median is least, among those as they come and those with memory
    kept; where there are none of these, `IF_KEPT` is left out.
    """

    def middle(name: str) -> float:
        return median(run.wall for run in results[name].runs)

    peers = [name for name in results if "ours" not in name]
    best = results[min((name for name in peers if MEMORY_KEPT not in name), key=middle)].runs
    keeping = min((name for name in peers if MEMORY_KEPT in name), key=middle, default=None)
    n_steps = len(best[0].result) // 2
    rows = []
    for name, result in results.items():
        seconds = [run.wall for run in result.runs]
        cpu = median(run.cpu for run in result.runs)
        row = [
            name,
            f"{1000 * middle(name) / n_steps:,.0f}",
            f"{n_tokens / middle(name):,.0f}",
            f"{1000 * cpu / n_steps:,.0f}",
            middle_and_range(ratios("wall", result.runs, best)),
            f"{median(ratios('cpu', result.runs, best)):.2f}",
            f"{flops / min(seconds) / 1e9 / limit:.0%}",
            f"{result.peak:,.0f}",
        ]
        if keeping:
            share = median(ratios("cpu", result.runs, results[keeping].runs))
            row.insert(HEADER.index(IF_KEPT), f"{share:.2f}")
        rows.append(row)
    return rows


def contest_table(size: str, precision: str, compiled: bool, n_rounds: int) -> str:
    """Both architectures in one table; a ratio is against the best peer of the same one."""
    limit = limits()[precision]
    same, rows = partial(same_steps, tolerance=TOLERANCE[precision]), []
    for kind in ("gpt", "llama"):
        shape = shape_of(size, kind)
        results = run_contest(contest(size, kind, precision, compiled), n_rounds, same)
        n_steps = N_STEPS[size]
        rows += rows_of(results, n_steps * shape.flops(), n_steps * shape.n_tokens, limit)
    header = [name for name in HEADER if name != IF_KEPT or precision == KEPT_IN]
    return table(header, rows) + ("" if LITGPT.is_file() else f"\n\n{WITHOUT_LITGPT}")


def limits() -> dict[str, float]:
    """GFLOP/s of large matrix products with one thread, for each precision."""
    import torch

    torch.set_num_threads(1)
    return {precision: matmul_limit(dtype) for precision, dtype in DTYPES.items()}


def choices_table(size: str, compiled: bool, n_rounds: int) -> str:
    """Ours alone, in bf16: three ways to attend, and all logits at once or some rows of them."""
    how = {"size": size, "kind": "gpt", "precision": "bf16", "compiled": compiled}
    how["n_steps"] = N_STEPS[size]
    contestants = [
        Contestant(
            f"`{attention}`, {f'{rows:,} rows' if rows else 'all logits'}",
            "benchmarks.training",
            "ours",
            how | {"attention": attention, "loss_chunk_size": rows},
        )
        for attention in ("batched_attend", "attend", "fused_attend")
        for rows in (None, 128, 512, 1024)
        if attention == "batched_attend" or rows in (None, 512)
    ]
    same = partial(same_steps, tolerance=TOLERANCE["bf16"])
    results = run_contest(contestants, n_rounds, same)
    first = next(iter(results.values())).runs
    rows = []
    for name, result in results.items():
        seconds = median(run.wall for run in result.runs) / N_STEPS[size]
        ratio = middle_and_range(ratios("wall", result.runs, first))
        cpu = f"{median(ratios('cpu', result.runs, first)):.2f}"
        rows.append([name, f"{1000 * seconds:,.0f}", ratio, cpu, f"{result.peak:,.0f}"])
    header = ["ours", "ms a step", "time ÷ first row's", "CPU ÷ first row's", "MB taken"]
    return table(header, rows)


def sections(tiny: bool) -> dict[str, Callable[[], str]]:
    """Each section's name in the page, and what measures its new content."""
    n_rounds = 1 if tiny else 5
    found = {"training-machine": lambda: describe_machine(PACKAGES, n_threads=1)}
    for size in ("S", "M"):
        measured = "tiny" if tiny else size
        for way in ("compiled", "eager"):
            for precision in ("bf16", "fp32"):
                # Three rounds where a step takes seconds: the whole is to end within an hour.
                fewer = min(n_rounds, 3 if size == "M" and (way, precision) != MAIN else 5)
                arguments = (measured, precision, way == "compiled", fewer)
                found[f"training-{size}-{way}-{precision}"] = partial(contest_table, *arguments)
        found[f"training-{size}-profile"] = partial(profile_table, measured, LOSS_ROWS)
    for way in ("compiled", "eager"):
        arguments = ("tiny" if tiny else "S", way == "compiled", n_rounds)
        found[f"training-S-{way}-choices"] = partial(choices_table, *arguments)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sections asked for, and write each into the page as soon as it is there."""
    measure_sections("Measure the training step.", sections, arguments)


if __name__ == "__main__":
    main()
