"""SmolLM2-135M: who is measured against whom. Writes its tables into book/benchmarks.md.

python -m benchmarks.smollm_run           all tables, medians of 5 rounds; compiling takes minutes
python -m benchmarks.smollm_run --tiny    two tokens, nobody compiled, printed and not written
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median

from benchmarks.command import measure_sections
from benchmarks.contest import Contestant, Results, check_same, run_contest
from benchmarks.decoding import Made, same_texts
from benchmarks.machine import describe_machine
from benchmarks.page import table
from benchmarks.smollm import N_NEW
from benchmarks.summary import middle_and_range, ratios
from benchmarks.training_run import PACKAGES

MODULE = "benchmarks.smollm"
BOUND = "only reading as much as float32 weights"
HEADER = ["program", "ms a token", "tokens/s", "GB/s of weights", "÷ reading alone"]
HEADER += ["times as fast as transformers' best in this type"]
BYTES = {"float32": 4 * 134_515_008, "bfloat16": 2 * 134_515_008, "int8": 135_298_560}
APART = 2.0  # how far the scores of the first token may be apart in fewer bits; they go up to 20


def contestants(n_new: int, ways: Sequence[bool]) -> list[Contestant]:
    """Who writes `n_new` tokens, each with one thread; `ways`: eager (False), compiled (True)."""
    found = []
    for compiled in ways:
        how, work = ", compiled" if compiled else "", {"compiled": compiled, "n_new": n_new}
        for dtype in ("float32", "bfloat16"):
            for who in ("transformers", "ours"):
                function = "huggingface" if who == "transformers" else who
                one = work | {"dtype": dtype}
                found.append(Contestant(f"{who}, {dtype}{how}", MODULE, function, one))
        found.append(Contestant(f"ours, int8{how}", MODULE, "ours", work | {"int8": True}))
    return found


def roughly_same(expected: Made | None, found: Made | None) -> bool:
    """Whether the first token's scores are those of the same model, in few bits or not.

    Later ones may be scores of another text.
    """
    if expected is None or found is None:  # who only reads
        return True
    pairs = zip(expected[1][:16], found[1][:16], strict=True)
    return all(abs(a - b) <= APART for a, b in pairs)


def speed_table(n_new: int, ways: Sequence[bool], n_rounds: int) -> str:
    """All contestants, and what only reading the weights takes."""
    reader = Contestant(BOUND, MODULE, "reading", {"n_times": n_new})
    results = run_contest([*contestants(n_new, ways), reader], n_rounds, roughly_same)
    exact = {name: found.runs for name, found in results.items() if "s, float32" in name}
    check_same(list(exact), list(exact.values()), same_texts)
    return table(HEADER, rows_of(results, n_new))


def kind_of(name: str) -> str:
    """Of "ours, int8, compiled", say, the type of the weights."""
    return next((kind for kind in BYTES if kind in name), "")


def rows_of(results: Mapping[str, Results], n_new: int) -> list[list[str]]:
    """A row for each contestant, the fastest last. What is int8 is held against float32."""

    def seconds(name: str) -> float:
        return median(run.wall for run in results[name].runs)

    best = {}  # transformers', for each type
    for name in sorted(results, key=seconds):
        if name.startswith("transformers"):
            best.setdefault(kind_of(name), results[name].runs)
    best["int8"] = best["float32"]
    reading, rows = results[BOUND].runs, []
    for name in sorted(results, key=seconds, reverse=True):
        kind, runs = kind_of(name), results[name].runs
        share = BYTES[kind] / BYTES["float32"]
        row = [name, f"{1000 * seconds(name) / n_new:,.1f}", f"{n_new / seconds(name):,.1f}"]
        row.append(f"{n_new * BYTES[kind] / seconds(name) / 1e9:.1f}")
        row.append(middle_and_range([share * ratio for ratio in ratios("wall", reading, runs)]))
        row.append("–" if name == BOUND else middle_and_range(ratios("wall", best[kind], runs)))
        rows.append(row)
    return rows


def load_table(n_rounds: int) -> str:
    """How long it takes until the model is there, and how much memory."""
    both = [
        Contestant("transformers", MODULE, "load_huggingface"),
        Contestant("ours, with the tokenizer", MODULE, "load_ours"),
    ]
    results = run_contest(both, n_rounds)
    rows = [
        [name, middle_and_range([run.wall for run in found.runs]), f"{found.peak:,.0f}"]
        for name, found in results.items()
    ]
    return table(["program", "seconds", "MB at most"], rows)


def sections(tiny: bool) -> dict[str, Callable[[], str]]:
    """What measures each section of the page."""
    n_rounds = 1 if tiny else 5
    ways = (False,) if tiny else (False, True)
    return {
        "smollm-machine": partial(describe_machine, PACKAGES, n_threads=1),
        "smollm-speed": partial(speed_table, 2 if tiny else N_NEW, ways, n_rounds),
        "smollm-load": partial(load_table, n_rounds),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sections asked for."""
    measure_sections("SmolLM2-135M continues a text.", sections, arguments)


if __name__ == "__main__":
    main()
