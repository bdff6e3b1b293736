"""The split: by the text alone, in the shares asked for."""

import math
import subprocess
import sys

import pytest

from transformer_lessons.data.split import SPLITS, split_of

TEXTS = [f"document {number}" for number in range(20_000)]


@pytest.mark.parametrize(("validation", "test"), [(0.05, 0.05), (0.3, 0.1), (0.0, 0.5), (0.0, 0.0)])
def test_the_shares_are_close_to_those_asked_for(validation, test):  # SPEC A5
    splits = [split_of(text, validation, test) for text in TEXTS]
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    assert set(splits) <= set(SPLITS) == set(shares)
    for name, share in shares.items():
        standard_error = math.sqrt(share * (1 - share) / len(TEXTS))
        assert abs(splits.count(name) / len(TEXTS) - share) <= 4 * standard_error


def test_more_validation_takes_from_training_only():
    for text in TEXTS[:2000]:
        before, after = split_of(text, 0.1, 0.1), split_of(text, 0.2, 0.1)
        assert before == after or (before, after) == ("train", "validation")


def test_another_seed_is_another_split():
    first, second = ([split_of(t, 0.25, 0.25, seed) for t in TEXTS] for seed in (0, 1))
    agree = sum(a == b for a, b in zip(first, second, strict=True)) / len(TEXTS)
    assert agree == pytest.approx(0.5**2 + 2 * 0.25**2, abs=0.02)  # as for unrelated splits


def test_every_process_splits_alike():  # SPEC A5
    code = (
        "from transformer_lessons.data.split import split_of\n"
        "print([split_of(f'document {n}', 0.3, 0.3, 7)[:2] for n in range(12)])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {f"{[split_of(t, 0.3, 0.3, 7)[:2] for t in TEXTS[:12]]}\n"}
    assert [split_of(t, 0.3, 0.3, 7) for t in TEXTS[:4]] == [
        "train",
        "test",
        "test",
        "train",
    ]  # and every machine


def test_half_a_character_is_no_obstacle():
    assert split_of("\ud800", 0.0, 0.0) == "train"
