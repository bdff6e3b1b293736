"""Which processor to run on. Lesson 1."""

import torch


def best_device() -> torch.device:
    """The fastest processor PyTorch finds here: an NVIDIA GPU, else an Apple GPU, else the CPU.

    >>> best_device().type in {"cuda", "mps", "cpu"}
    True
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
