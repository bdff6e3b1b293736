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

    Numbers, tables and sequences are compared by value: 2, 2.0 and np.float32(2) agree, so do a
    list and a tuple, a tensor and an array; numbers may be tolerance * (1 + |expected|) apart.
    `path` says where inside the answer the values are.

    >>> difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]), tolerance=1e-5)
    'at [1]: expected 2.0, got 2.5 (1 of 2 values differ)'
    >>> difference((1, [2, 3]), [1, (2,)])
    'at [1]: expected 2 items, got 1'
    """
    place = f"at {path}: " if path else ""
    wrong_type = f"{place}expected type {type(expected).__name__}, got {type(got).__name__}"
    if isinstance(expected, Tensor | np.ndarray):
        table = _as_table(got)
        return wrong_type if table is None else _table_difference(expected, table, tolerance, path)
    if isinstance(expected, dict):
        if not isinstance(got, dict):
            return wrong_type
        if expected.keys() != got.keys():
            return f"{place}expected the keys {show(list(expected))}, got {show(list(got))}"
        pairs = [(key, expected[key], got[key]) for key in expected]
        return _first_difference(pairs, tolerance, path)
    if isinstance(expected, list | tuple):
        is_table = isinstance(got, np.ndarray | Tensor) and got.ndim > 0
        if not is_table and not isinstance(got, list | tuple | range):
            return wrong_type
        if len(expected) != len(got):
            return f"{place}expected {len(expected)} items, got {len(got)}"
        pairs = [(i, a, b) for i, (a, b) in enumerate(zip(expected, got, strict=True))]
        return _first_difference(pairs, tolerance, path)
    is_number = isinstance(expected, int | float)
    got = _as_number(got) if is_number else got
    if got is None or not isinstance(got, (int, float) if is_number else type(expected)):
        return "" if expected is got else wrong_type
    is_same = _close(expected, got, tolerance) if is_number else expected == got
    return "" if is_same else f"{place}{_expected_and_got(expected, got)}"


def _as_number(value: Any) -> int | float | None:
    """A number, whatever library it is from, as Python's own; None for everything else."""
    if isinstance(value, Tensor | np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    return value if isinstance(value, int | float) else None


def _as_table(value: Any) -> Tensor | None:
    """A tensor, an array, or lists of numbers, as a tensor on the CPU; None for anything else."""
    if isinstance(value, Tensor):
        return None if value.is_meta else value.detach().cpu()
    if not isinstance(value, np.ndarray | np.generic | list | tuple | int | float):
        return None
    try:
        return torch.as_tensor(np.array(value))
    except (TypeError, ValueError):  # rows of unequal length, or no numbers
        return None


def _close(expected: float, got: float, tolerance: float) -> bool:
    if expected == got or (math.isnan(expected) and math.isnan(got)):
        return True
    if isinstance(expected, int) and isinstance(got, int):
        return False
    # Two infinities that differ are not close, though inf <= inf.
    return math.isfinite(expected) and abs(got - expected) <= tolerance * (1 + abs(expected))


def _first_difference(pairs: Any, tolerance: float, path: str) -> str:
    for key, expected, got in pairs:
        if found := difference(expected, got, tolerance, f"{path}[{key!r}]"):
            return found
    return ""


def _table_difference(
    expected: Tensor | np.ndarray, got: Tensor, tolerance: float, path: str
) -> str:
    expected = torch.as_tensor(expected).detach().cpu()
    place = f"at {path}: " if path else ""
    if expected.shape != got.shape:
        return f"{place}expected shape {tuple(expected.shape)}, got {tuple(got.shape)}"
    wide = torch.promote_types(torch.promote_types(expected.dtype, got.dtype), torch.float64)
    a, b = expected.to(wide), got.to(wide)
    differs = ~torch.isclose(b, a, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not differs.any():
        return ""
    first = tuple(differs.nonzero()[0].tolist())
    index = f"[{', '.join(map(str, first))}]" if first else ""
    place = f"at {path}{index}: " if path or index else ""
    count = f" ({int(differs.sum())} of {differs.numel()} values differ)" if index else ""
    return f"{place}{_expected_and_got(expected[first].item(), got[first].item())}{count}"


def _expected_and_got(expected: Any, got: Any) -> str:
    """Both values, with as many digits as it takes to see that they differ."""
    for digits in (6, 9, 17):
        if show(expected, digits) != show(got, digits):
            break
    return f"expected {show(expected, digits)}, got {show(got, digits)}"


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
