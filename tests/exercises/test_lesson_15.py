"""The references of lesson 15 against the package, and numbers worked out by hand."""

import torch

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.data.sampler import WindowLoader
from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.training.loss import cross_entropy
from transformer_lessons.training.parallel_plan import plan_ranks


def reference(name):
    return find_exercise(f"15.{name}").reference


def test_lesson_15_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("15")] == [
        "15.global_mean",
        "15.own_windows",
        "15.ring_chunk",
        "15.bytes_held",
        "15.bytes_sent",
        "15.resumed_at",
    ]


def test_the_global_mean_is_that_of_one_process():
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 9), torch.tensor([1, IGNORE, 3, IGNORE, IGNORE, 5])
    parts = list(zip(logits.split(3), targets.split(3), strict=True))
    sums = [cross_entropy(x, y, reduction="sum").item() for x, y in parts]
    counts = [int((y != IGNORE).sum()) for _, y in parts]
    assert abs(reference("global_mean")(sums, counts) - cross_entropy(logits, targets)) < 1e-6


def test_windows_are_those_of_the_loader():
    for n_ranks in (1, 2, 3):
        for rank in range(n_ranks):
            loader = WindowLoader(range(60), 6 // n_ranks, 4, rank, n_ranks)
            order = loader.order(0).tolist()
            for step in range(3):
                numbers = reference("own_windows")(step, 6, rank, n_ranks)
                assert [order[n] for n in numbers] == loader.numbers(step * 6)
                assert numbers[0] == reference("resumed_at")(step, 6, 2, n_ranks, rank)


def test_a_ring_adds_up_every_chunk():
    n = 5
    chunks = [[10**rank for _ in range(n)] for rank in range(n)]
    for step in range(n - 1):
        sent = [(rank, reference("ring_chunk")(rank, step, n)) for rank in range(n)]
        arriving = [(rank, chunk, chunks[rank][chunk]) for rank, chunk in sent]
        for rank, chunk, value in arriving:
            chunks[(rank + 1) % n][chunk] += value
    assert [chunks[rank][(rank + 1) % n] for rank in range(n)] == [11111] * n


def test_bytes_are_those_of_the_plan():
    for shard in (False, True):
        plan = plan_ranks(1000, 4, shard, tokens=1)
        assert reference("bytes_held")(1000, 4, shard) == plan.held
    assert reference("bytes_sent")(4000.0, 4) == plan_ranks(1000, 4, shard=False, tokens=1).sent
