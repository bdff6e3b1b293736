"""How two values differ, in one sentence, and how a value is shown to a learner.

Both are the same on every machine: numbers are rounded, and no memory address is ever shown.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor


def difference(expected: Any, got: Any, tolerance: float = 0.0, path: str = "") -> str:
    """The first thing in which `got` differs from `expected`; "" when they agree.

    Types, shapes, dtypes and devices must be equal (an int may stand for a float); numbers may be
    tolerance * (1 + |expected|) apart. `path` says where inside the answer the values are.

    >>> difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]), tolerance=1e-5)
    'at [1]: expected 2.0, got 2.5 (1 of 2 values differ)'
    >>> difference((1, [2, 3]), (1, [2]))
    'at [1]: expected 2 items, got 1'
    """
    place = f"at {path}: " if path else ""
    if not _same_kind(expected, got):
        return f"{place}expected type {type(expected).__name__}, got {type(got).__name__}"
    if isinstance(expected, np.ndarray):
        if expected.dtype != got.dtype:
            return f"{place}expected dtype {expected.dtype}, got {got.dtype}"
        return difference(torch.tensor(expected), torch.tensor(got), tolerance, path)
    if isinstance(expected, Tensor):
        return _tensor_difference(expected, got, tolerance, path)
    if isinstance(expected, dict):
        if expected.keys() != got.keys():
            return f"{place}expected the keys {show(list(expected))}, got {show(list(got))}"
        pairs = ((key, expected[key], got[key]) for key in expected)
        return _first_difference(pairs, tolerance, path)
    if isinstance(expected, (list, tuple)):
        if len(expected) != len(got):
            return f"{place}expected {len(expected)} items, got {len(got)}"
        pairs = zip(range(len(expected)), expected, got, strict=True)
        return _first_difference(pairs, tolerance, path)
    is_same = _close(expected, got, tolerance) if isinstance(expected, float) else expected == got
    return "" if is_same else f"{place}expected {show(expected, 6)}, got {show(got, 6)}"


def _same_kind(expected: Any, got: Any) -> bool:
    if isinstance(expected, bool) or isinstance(got, bool):  # Python counts a bool as an int
        return isinstance(expected, bool) and isinstance(got, bool)
    if isinstance(expected, float):
        return isinstance(got, (float, int))
    return isinstance(got, type(expected))


def _close(expected: float, got: float, tolerance: float) -> bool:
    if expected == got or (math.isnan(expected) and math.isnan(got)):
        return True
    # Two infinities that differ are not close, though inf <= inf.
    return math.isfinite(expected) and abs(got - expected) <= tolerance * (1 + abs(expected))


def _first_difference(pairs: Any, tolerance: float, path: str) -> str:
    for key, expected, got in pairs:
        if found := difference(expected, got, tolerance, f"{path}[{key!r}]"):
            return found
    return ""


def _tensor_difference(expected: Tensor, got: Tensor, tolerance: float, path: str) -> str:
    place = f"at {path}: " if path else ""
    if expected.shape != got.shape:
        return f"{place}expected shape {tuple(expected.shape)}, got {tuple(got.shape)}"
    if expected.dtype != got.dtype:
        return f"{place}expected dtype {expected.dtype}, got {got.dtype}"
    if expected.device != got.device:
        return f"{place}expected device {expected.device}, got {got.device}"
    differs = ~torch.isclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not differs.any():
        return ""
    first = tuple(differs.nonzero()[0].tolist())
    index = f"[{', '.join(map(str, first))}]" if first else ""
    place = f"at {path}{index}: " if path or index else ""
    count = f" ({int(differs.sum())} of {differs.numel()} values differ)" if index else ""
    values = f"expected {show(expected[first].item(), 6)}, got {show(got[first].item(), 6)}"
    return f"{place}{values}{count}"


def show(value: Any, digits: int = 4) -> str:
    """`value` as text, numbers rounded to `digits` decimals; long values are cut, a table has a
    row a line, and what is not data is named by its type.

    >>> print(show(torch.tensor([[1.0, 2.0], [3.0, 0.123456]])))
    [[1.0, 2.0],
     [3.0, 0.1235]]
    >>> show(torch.zeros(3, 256)), show(show)
    ('Tensor of shape (3, 256)', '<function>')
    """
    if isinstance(value, (Tensor, np.ndarray)):
        if math.prod(value.shape) > 64:
            return f"{type(value).__name__} of shape {tuple(value.shape)}"
        return show(value.tolist(), digits).replace("], [", "],\n [")
    if isinstance(value, (list, tuple)):
        items = [show(item, digits) for item in value[:20]]
        items += [f"… {len(value)} items"] if len(value) > 20 else []
        if isinstance(value, list):
            return f"[{', '.join(items)}]"
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    if isinstance(value, dict):
        items = [f"{show(key)}: {show(item, digits)}" for key, item in list(value.items())[:20]]
        return f"{{{', '.join(items)}{', …' if len(value) > 20 else ''}}}"
    if isinstance(value, float):
        return repr(round(float(value), digits) + 0.0)  # + 0.0 turns -0.0 into 0.0
    if value is None or isinstance(value, (int, str, bytes, complex)):
        text = repr(value)
        return text if len(text) <= 80 else f"{text[:79]}…"
    return f"<{type(value).__name__}>"
