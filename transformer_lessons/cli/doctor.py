"""`doctor`: does this machine compute rightly, which data type does it like, and what is here?

Some accelerators and drivers have computed wrong numbers without an error. So a small trained model
does here what training and generation do, and is compared with the CPU in float64.
"""

import os
import platform
import time

import psutil
import torch
from rich.table import Table

import transformer_lessons as tl
from transformer_lessons import cli
from transformer_lessons.cli.options.models import Doctor
from transformer_lessons.support.assets import ASSETS, find_cached

# Largest difference that rounding explains: ten times and more what was seen on CPUs.
TOLERANCES = {"logits": 1e-3, "gradients": 1e-3, "loss after a step": 1e-3}


def run(options: Doctor) -> int:
    """Print the findings; returns the exit code."""
    console, device = cli.PlainConsole(), cli.choose_device(options.device)
    rows = {"Python": platform.python_version(), "PyTorch": torch.__version__}
    rows["CPU"] = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads in use"
    rows["memory"] = f"{psutil.virtual_memory().total / 2**30:.0f} GB"
    rows["device"] = device.type
    rows |= {name: "here" if find_cached(name) else "not fetched yet" for name in ASSETS}
    console.print_rows("this machine", rows)

    seen, expected = outcomes(device, torch.float32), outcomes(torch.device("cpu"), torch.float64)
    table, is_right = Table(f"{device.type}, float32", "from float64", "allowed", box=None), True
    for name, tolerance in TOLERANCES.items():
        difference = (seen[name] - expected[name]).abs().max().item()
        is_right &= difference <= tolerance  # false for a difference that is not a number
        table.add_row(name, f"{difference:.0e}", f"{tolerance:.0e}")
    n_equal = int((seen["tokens"] == expected["tokens"]).sum())
    table.add_row("greedy tokens", f"{n_equal} equal", f"{len(expected['tokens'])}")
    is_right &= n_equal == len(expected["tokens"])
    console.print(table)

    speeds = Table("data type", "training: GFLOP/s", "generation: GB/s read", box=None)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        speeds.add_row(str(dtype).removeprefix("torch."), *measure(device, dtype))
    console.print(speeds)
    console.print("Training likes the type with most GFLOP/s: --training.precision bf16, say")
    verdict = "computes rightly" if is_right else "computes WRONGLY: use another device"
    console.print(f"The {device.type} {verdict}")
    return 0 if is_right else 1


def outcomes(device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """What the shipped model computes: logits, gradients, the loss after a step, greedy tokens."""
    model, tokenizer = tl.load_shipped()
    model = model.to(device, dtype).eval()  # dropout would differ from device to device
    prompt = tokenizer.encode_ordinary("def read(path):\n    with open(path) as file:\n")
    tokens = torch.tensor([prompt], device=device)
    written = tl.generate(model, [prompt], 32)[0]
    logits = model(tokens[:, :-1])
    tl.cross_entropy(logits, tokens[:, 1:]).backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    tl.AdamW(model.parameters(), lr=1e-3).step()
    found = {"logits": logits.flatten(), "gradients": torch.cat(gradients)}
    found["loss after a step"] = tl.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
    numbers = {name: values.detach().cpu().double() for name, values in found.items()}
    return numbers | {"tokens": torch.tensor(written)}


def measure(device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """The speed of products of matrices, and of a matrix with a vector; the best of five."""

    def seconds(a: torch.Tensor, b: torch.Tensor) -> float:
        times = []
        for _ in range(6):
            start = time.perf_counter()
            (a @ b).flatten()[0].item()  # reading a number waits until the device is done
            times.append(time.perf_counter() - start)
        return min(times[1:])

    n = 1024 if device.type == "cpu" else 4096
    matrix = torch.randn(32 * n, n, device=device).to(dtype)  # too large for a processor's cache
    try:
        product, vector = seconds(matrix[: 4 * n], matrix[:n].T), seconds(matrix, matrix[0])
    except RuntimeError:  # this device has no such product
        return "-", "-"
    n_bytes = matrix.numel() * matrix.element_size()
    return f"{8 * n**3 / product / 1e9:,.0f}", f"{n_bytes / vector / 1e9:,.1f}"
