"""Where the time of a training step goes: PyTorch's profiler, its operations put into groups."""

from collections.abc import Iterable

from benchmarks.page import table
from benchmarks.training import ours

GROUPS = {  # the first group that has a part of the operation's name
    "matrix products": ("::mm", "::addmm", "::bmm", "::baddbmm", "linear", "attention"),
    "what the compiler fused": ("CompiledFxGraph",),
    "optimizer": ("adamw", "AdamW"),
    "softmax and logarithms": ("softmax", "logsumexp", "::exp", "::log", "Logsumexp"),
    "copies and changes of precision": ("copy", "::cat", "clone", "::fill_", "::zero_"),
}
OTHER = "all else: sums, products of elements, norms"


def group_of(operation: str) -> str:
    """The group of an operation, by its name.

    >>> group_of("aten::addmm"), group_of("aten::copy_"), group_of("aten::mul")[:8]
    ('matrix products', 'copies and changes of precision', 'all else')
    """
    for group, parts in GROUPS.items():
        if any(part in operation for part in parts):
            return group
    return OTHER


def share_out(operations: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The time of each group, from operations and their own times (without what they call)."""
    times = dict.fromkeys([*GROUPS, OTHER], 0.0)
    for name, seconds in operations:
        times[group_of(name)] += seconds
    return times


def profile_step(size: str, compiled: bool, loss_chunk_size: int | None) -> dict[str, float]:
    """Seconds of each group in one bf16 step of the GPT-style model, after one to warm up."""
    from torch.profiler import profile

    how = {"n_steps": 1, "loss_chunk_size": loss_chunk_size}
    work = ours(size, "gpt", precision="bf16", compiled=compiled, **how)
    work.run()
    with profile() as profiler:
        work.run()
    events = profiler.key_averages()
    return share_out((event.key, event.self_cpu_time_total / 1e6) for event in events)


def profile_table(size: str, loss_chunk_size: int) -> str:
    """A column for each way of taking the step, with milliseconds and shares."""
    ways = {
        "eager, all logits": (False, None),
        f"eager, {loss_chunk_size} rows": (False, loss_chunk_size),
        "compiled, all logits": (True, None),
        f"compiled, {loss_chunk_size} rows": (True, loss_chunk_size),
    }
    columns = [profile_step(size, *way) for way in ways.values()]
    rows = []
    for group in [*GROUPS, OTHER]:
        shares = [(column[group], column[group] / sum(column.values())) for column in columns]
        rows.append([group, *(f"{1000 * time:,.0f} ms, {share:.0%}" for time, share in shares)])
    rows.append(["all", *(f"{1000 * sum(column.values()):,.0f} ms" for column in columns)])
    return table(["part", *ways], rows)
