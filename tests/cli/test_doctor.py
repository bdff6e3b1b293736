"""`doctor`: it finds what a device computes wrongly, and only then does it complain."""

import re

import pytest
import torch
from torch.nn import functional

from transformer_lessons.cli import doctor


@pytest.fixture
def quick(monkeypatch):
    """`doctor` without its measurements of speed, which no test judges."""
    monkeypatch.setattr(doctor, "measure", lambda *_: ("1", "2"))


def wrong_lines(shown):
    """The names of what differs by more than is allowed."""
    rows = re.findall(r"^ (\D+?) +(\d\S+|nan) +(\d\S+) *$", shown, re.MULTILINE)
    return [name for name, seen, allowed in rows if not float(seen) <= float(allowed)]


def test_a_sound_device_is_called_right(quick, run_here, tmp_path):
    done = run_here("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "The cpu computes rightly" in done.stdout
    assert re.search(r"greedy tokens +32 equal +32", done.stdout)
    assert len(re.findall(r"e-0\d +1e-03", done.stdout)) == 3
    assert wrong_lines(done.stdout) == []


def test_an_update_that_is_lost_in_silence_is_found(quick, run_here, tmp_path, monkeypatch):
    """What Apple's GPUs did with some layouts of memory before PyTorch 2.4."""
    real = torch.Tensor.addcdiv_

    def lost(tensor, *arguments, **options):
        if tensor.dtype == torch.float64:
            return real(tensor, *arguments, **options)
        return tensor

    monkeypatch.setattr(torch.Tensor, "addcdiv_", lost)
    done = run_here("doctor", cwd=tmp_path)
    assert done.returncode == 1
    assert "The cpu computes WRONGLY: use another device" in done.stdout
    assert wrong_lines(done.stdout) == ["loss after a step"]


def test_wrong_scores_are_found(quick, run_here, tmp_path, monkeypatch):
    real = functional.silu
    wrong = lambda x, **options: real(x, **options) * (1.2 if x.dtype == torch.float32 else 1)  # noqa: E731
    monkeypatch.setattr(functional, "silu", wrong)
    done = run_here("doctor", cwd=tmp_path)
    assert done.returncode == 1
    assert wrong_lines(done.stdout) == ["logits", "gradients", "loss after a step"]


def test_speeds_are_those_of_the_work_done(monkeypatch):
    """With a clock that stands at 0, 1, 2, ... each product takes one second."""
    monkeypatch.setattr(doctor.time, "perf_counter", iter(range(100)).__next__)
    shown = doctor.measure(torch.device("cpu"), torch.float32)
    assert shown == (f"{2 * 4 * 1024**3 / 1e9:,.0f}", f"{32 * 1024 * 1024 * 4 / 1e9:,.1f}")


def test_an_unknown_device_ends_with_one_line(run_here, tmp_path):
    done = run_here("doctor", "--device", "tpu", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no device 'tpu'" in done.stderr
