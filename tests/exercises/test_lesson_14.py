"""The references of lesson 14 against the package and numbers worked out by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from transformer_lessons.cli.run_folder import remove_old
from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.training.state import flatten_tensors


def exercise(name):
    return find_exercise(f"14.{name}")


def reference(name):
    return exercise(name).reference


def test_lesson_14_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("14")] == [
        "14.after_power_cut",
        "14.read_tensor",
        "14.state_bytes",
        "14.first_difference",
        "14.kept_steps",
        "14.lost_share",
    ]


def every_power_cut(steps):
    """What the name may stand for, by trying each way in which what waits may reach the disk."""
    safe, waiting = set(), []
    for step in steps:
        if step == "write":
            waiting += ["page 1", "page 2"]
        elif step == "rename":
            waiting.append("name")
        else:
            done = {o for o in waiting if (o == "name") == (step == "sync folder")}
            safe, waiting = safe | done, [o for o in waiting if o not in done]
    found = set()
    for reached in itertools.product((False, True), repeat=len(waiting)):
        disk = safe | set(itertools.compress(waiting, reached))
        whole = {"page 1", "page 2"} <= disk
        found.add("old" if "name" not in disk else "new" if whole else "broken")
    return found


def test_power_cuts_by_trying_all_of_them():  # SPEC G4
    others = ("sync file", "rename", "sync folder")
    for n in range(4):
        for some in itertools.permutations(others, n):
            for place in range(n + 1):
                steps = [*some[:place], "write", *some[place:]]
                if "rename" in some[:place]:
                    continue  # nothing is renamed that wasn't written
                found = every_power_cut(steps)
                expected = [name in found for name in ("broken", "new", "old")]
                assert reference("after_power_cut")(steps) == expected, steps


@pytest.mark.parametrize("case", exercise("read_tensor").cases)
def test_tensors_are_those_of_safetensors(case):  # SPEC G4
    data, name = case
    assert reference("read_tensor")(data, name) == load(data)[name].flatten().tolist()


def test_any_tensor_is_read():  # SPEC G4
    torch.manual_seed(0)
    tensors = {f"t{n}": torch.randn(n, 3) for n in range(5)}
    for name, tensor in tensors.items():
        assert reference("read_tensor")(save(tensors), name) == tensor.flatten().tolist()


@pytest.mark.parametrize("case", exercise("state_bytes").cases)
def test_bytes_are_those_of_the_file(case):  # SPEC G4
    tensors = {}
    flatten_tensors(case[0], "state", tensors)
    once = {tensor.data_ptr(): tensor for tensor in tensors.values()}
    data = save({str(n): tensor for n, tensor in enumerate(once.values())})
    header = int.from_bytes(data[:8], "little")
    assert reference("state_bytes")(*case) == len(data) - 8 - header


def test_state_bytes_by_hand():  # SPEC G4
    shared = torch.zeros(3)
    assert reference("state_bytes")({"a": [shared, 5], "b": {"c": shared}}) == 12


def test_first_difference_by_hand():  # SPEC G4
    find = reference("first_difference")
    assert find([1.0, 2.0], [1.0, 2.0]) == 0
    assert find([1.0, 2.0], [1.0, math.nextafter(2.0, 3.0)]) == 2
    assert find([1.0], [1.0, 2.0, 3.0]) == 2


@pytest.mark.parametrize("case", exercise("kept_steps").cases)
def test_kept_steps_are_the_packages(tmp_path, case):  # SPEC G4
    steps, keep, best_step = case
    for step in steps:
        (tmp_path / f"step-{step:08d}").mkdir()
    remove_old(tmp_path, keep, best_step)
    found = sorted(int(path.name[5:]) for path in tmp_path.iterdir())
    assert reference("kept_steps")(*case) == found


def test_lost_share_by_simulating_crashes():  # SPEC G4
    tau, delta, between = 900.0, 30.0, 11_000.0
    waits = np.random.default_rng(0).exponential(between, 100_000)
    kept = np.floor(waits / (tau + delta)) * tau
    simulated = 1 - kept.sum() / waits.sum()
    assert reference("lost_share")(tau, delta, between) == pytest.approx(simulated, abs=0.005)


def test_lost_share_is_least_at_youngs_interval():  # SPEC G4
    delta, between = 2.0, 86_400.0
    best = math.sqrt(2 * delta * between)
    share = reference("lost_share")
    assert share(best, delta, between) == pytest.approx(0.0068, abs=1e-4)
    assert share(best, delta, between) < min(share(f * best, delta, between) for f in (0.9, 1.1))
