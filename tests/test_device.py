"""Which processor is chosen: CUDA before MPS before the CPU.  # SPEC F11"""

import pytest
import torch

from transformer_lessons.device import best_device


@pytest.mark.parametrize(
    ("has_cuda", "has_mps", "expected"),
    [
        (True, True, "cuda"),
        (True, False, "cuda"),
        (False, True, "mps"),
        (False, False, "cpu"),
    ],
)
def test_order_of_preference(monkeypatch, has_cuda, has_mps, expected):  # SPEC F11
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    assert best_device() == torch.device(expected)


def test_the_device_of_this_machine_computes():  # SPEC F11
    device = best_device()
    assert (torch.arange(4, device=device) * 2).cpu().tolist() == [0, 2, 4, 6]
