"""The machine that was measured: what it is, and how fast it multiplies and reads."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.page import table

SIZE, N_TRIES = 2048, 5


def best_seconds(work: Callable[[], object], n_tries: int = N_TRIES) -> float:
    """The shortest of `n_tries` runs, after one that is not counted: the limit is asked for."""
    work()
    seconds = []
    for _ in range(n_tries):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def matmul_limit(dtype: str, size: int = SIZE) -> float:
    """GFLOP/s of a square matrix product in `dtype`, with torch's threads as they are set."""
    import torch

    matrix = torch.randn(size, size).to(getattr(torch, dtype))
    return 2 * size**3 / best_seconds(lambda: matrix @ matrix) / 1e9


def bandwidth(n_bytes: int = 1 << 29) -> float:
    """GB/s of reading memory: the sum of an array that no cache holds."""
    import torch

    array = torch.ones(n_bytes // 4)
    return n_bytes / best_seconds(array.sum) / 1e9


def processor() -> str:
    """The model of the processor, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


def machine_kind() -> str:
    """What results are kept under: the processor, and whether it multiplies whole tiles (AMX)."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    return f"{processor()}, {'with' if 'amx_tile' in flags else 'without'} AMX"


def describe_machine(packages: Sequence[str], n_threads: int) -> str:
    """A table of the machine, the versions of `packages`, and the limits with `n_threads`."""
    import torch

    torch.set_num_threads(n_threads)
    rows = [
        ["processor", f"{processor()}, {os.cpu_count()} cores"],
        ["system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"],
        ["versions", ", ".join(f"{name} {version(name)}" for name in packages)],
        ["other load when it began", f"{os.getloadavg()[0]:.1f} processes at a time"],
    ]
    rows += [
        [f"matrix products, {name}, {n_threads} threads", f"{matmul_limit(name):,.0f} GFLOP/s"]
        for name in ("float32", "bfloat16")
    ]
    rows.append([f"reading memory, {n_threads} threads", f"{bandwidth():.0f} GB/s"])
    return table(["what", "measured"], rows)
