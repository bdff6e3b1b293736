"""Where all random numbers come from, as something that can be saved and put back.

Dropout draws from PyTorch's generators, data may be shuffled with Python's or NumPy's. A run that
is to go on as if nothing had happened needs the state of each.
"""

import random
from typing import Any

import numpy as np
import torch

from transformer_lessons.errors import LessonsError


def random_state() -> dict[str, Any]:
    """The states of the generators of Python, NumPy, PyTorch, and each GPU.

    >>> state = random_state()
    >>> numbers = random.random(), torch.rand(3)
    >>> set_random_state(state)
    >>> random.random() == numbers[0], torch.equal(torch.rand(3), numbers[1])
    (True, True)
    """
    version, numbers, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    state = {
        "python": [version, list(numbers), gauss],
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` returned; what doesn't fit raises `LessonsError`.

    GPUs that are not there any more are passed over: without them, nothing draws from them.
    """
    try:
        version, numbers, gauss = state["python"]
        random.setstate((version, tuple(numbers), gauss))
        name, keys, place, *rest = state["numpy"]
        if not 0 <= place <= len(keys):  # NumPy doesn't look, and would read memory not its own
            raise ValueError(f"NumPy's place {place} is not from 0 to {len(keys)}")
        np.random.set_state((name, np.array(keys, np.uint32), place, *rest))
        torch.set_rng_state(state["torch"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])
        if torch.backends.mps.is_available() and "mps" in state:
            torch.mps.set_rng_state(state["mps"])
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError, IndexError) as error:
        what = f"this is no state of random numbers: {error}"
        raise LessonsError(what, where="random") from None
