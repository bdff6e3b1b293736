"""All generators, saved and put back; what is no state of them is refused."""

import copy
import json
import random

import numpy as np
import pytest
import torch

from transformer_lessons.errors import LessonsError
from transformer_lessons.training.randomness import random_state, set_random_state
from transformer_lessons.training.state import flatten_tensors, unflatten_tensors


def draw():
    """Numbers from every generator; Gauss and the normal draw two and keep one for later."""
    ours = [random.random(), random.gauss(0, 1), random.getrandbits(70)]
    theirs = [np.random.random(), np.random.normal(), np.random.randint(2**31)]
    return ours + theirs + torch.rand(3).tolist() + torch.randn(1).tolist()


@pytest.mark.parametrize("n_before", [0, 1, 700])  # 624 numbers are made at a time
def test_every_generator_goes_on_where_it_was(n_before):  # SPEC A7 E9
    for _ in range(n_before):
        draw()
    draw()
    tensors = {}
    text = json.dumps(flatten_tensors(random_state(), "random", tensors))
    expected = [draw() for _ in range(3)]
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(99)
    assert draw() != expected[0]
    set_random_state(unflatten_tensors(json.loads(text), tensors))
    assert [draw() for _ in range(3)] == expected


def test_looking_draws_nothing():
    before = random_state()
    random_state()
    assert str(random_state()) == str(before)


BAD = {
    "nothing": lambda s: s.clear(),
    "no torch": lambda s: s.pop("torch"),
    "python as a number": lambda s: s.update(python=3),
    "python, another version": lambda s: s["python"].__setitem__(0, 9),
    "python, too few": lambda s: s["python"].__setitem__(1, [1, 2]),
    "python, a huge number": lambda s: s["python"][1].__setitem__(0, 2**70),
    "python, a word": lambda s: s["python"][1].__setitem__(0, "x"),
    "numpy, another kind": lambda s: s["numpy"].__setitem__(0, "PCG64"),
    "numpy, too few": lambda s: s["numpy"].__setitem__(1, [1]),
    "numpy, a negative number": lambda s: s["numpy"][1].__setitem__(0, -1),
    "numpy, a place outside": lambda s: s["numpy"].__setitem__(2, 2**31 - 1),
    "numpy, a place before": lambda s: s["numpy"].__setitem__(2, -5),
    "numpy, a place that is none": lambda s: s["numpy"].__setitem__(2, 1e300),
    "torch, too short": lambda s: s.update(torch=torch.zeros(3, dtype=torch.uint8)),
    "torch, other numbers": lambda s: s.update(torch=torch.zeros(5056)),
    "torch, all zeros": lambda s: s.update(torch=torch.zeros(5056, dtype=torch.uint8)),
    "torch, no tensor": lambda s: s.update(torch=[1, 2]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_state_is_refused(name):  # SPEC S9
    good = random_state()
    bad = copy.deepcopy(good)
    BAD[name](bad)
    try:
        with pytest.raises(LessonsError, match=r"this is no state of random numbers.*\(random\)"):
            set_random_state(bad)
    finally:
        set_random_state(good)
