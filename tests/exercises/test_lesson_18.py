"""The references of lesson 18 against the package's cache, and numbers worked out by hand."""

import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.generation.decoding import prefill
from transformer_lessons.generation.generate import generate
from transformer_lessons.model.cache import KVCache
from transformer_lessons.model.decoder import Decoder

CONFIG = ModelConfig(16, 64, d_model=4, n_layers=1, n_heads=2, d_ff=8)


def exercise(name):
    return find_exercise(f"18.{name}")


def reference(name):
    return exercise(name).reference


def test_lesson_18_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("18")] == [
        "18.tokens_read",
        "18.next_positions",
        "18.piece_mask",
        "18.ring_places",
        "18.tokens_per_second",
        "18.texts_that_fit",
    ]


@pytest.mark.parametrize("case", exercise("tokens_read").cases)
def test_tokens_read_are_those_that_go_through_the_model(case):  # SPEC G4, E3
    n_prompt, n_new = case
    model, counts, text = Decoder(CONFIG), [], [1] * n_prompt
    model.embedding.register_forward_pre_hook(lambda _, inputs: counts.append(inputs[0].numel()))
    generate(model, [text], n_new)
    with_cache = sum(counts)
    counts.clear()
    for _ in range(n_new):
        model(torch.tensor([text]))
        text.append(1)
    assert reference("tokens_read")(*case) == [sum(counts), with_cache]


def test_tokens_read_by_hand():  # SPEC G4, E3
    assert reference("tokens_read")(4, 3) == [4 + 5 + 6, 6]


@pytest.mark.parametrize("case", exercise("next_positions").cases)
def test_positions_are_the_caches(case):  # SPEC G4, E3
    lengths, n_written = case
    cache = KVCache(CONFIG, batch_size=len(lengths))
    model = Decoder(CONFIG)
    prefill(model, [[1] * length for length in lengths], cache)
    for _ in range(n_written):
        model(torch.ones(len(lengths), 1, dtype=torch.long), cache)
    expected = cache.positions(1).flatten().tolist()
    if len(expected) == 1:  # without padding, all texts are at the same position
        expected = expected * len(lengths)
    assert reference("next_positions")(*case) == expected


def test_positions_by_hand():  # SPEC G4, E3
    assert reference("next_positions")([9, 4, 6], 0) == [9, 4, 6]
    assert reference("next_positions")([5, 2], 3) == [8, 5]


@pytest.mark.parametrize("case", exercise("piece_mask").cases)
def test_the_mask_is_the_caches(case):  # SPEC G4, E3
    n_cached, n_new, window = case
    cache = KVCache(CONFIG)  # as many slots as the context has, so nothing is overwritten
    cache.window = window
    cache.length += n_cached
    assert torch.equal(reference("piece_mask")(*case), cache.mask(n_new))


def test_the_mask_by_hand():  # SPEC G4, E3
    expected = [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert reference("piece_mask")(2, 2, None).int().tolist() == expected
    assert reference("piece_mask")(2, 2, 2).int().tolist() == [[0, 1, 1, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize("case", exercise("ring_places").cases)
def test_the_ring_is_the_caches(case):  # SPEC G4, E3
    n_seen, n_slots = case
    window = ModelConfig(16, 64, d_model=4, n_layers=1, n_heads=2, d_ff=8, sliding_window=n_slots)
    cache = KVCache(window, chunk=1)
    cache.keys[0].fill_(-1)
    for place in range(n_seen):  # the key of each place says which it is
        key = torch.full((1, 2, 1, 2), float(place))
        cache.update(0, key, key)
        cache.length += 1
    assert reference("ring_places")(*case) == cache.keys[0][0, 0, :, 0].tolist()


def test_the_ring_by_hand():  # SPEC G4, E3
    assert reference("ring_places")(7, 5) == [5, 6, 2, 3, 4]
    assert reference("ring_places")(2, 4) == [0, 1, -1, -1]


def test_the_bound_by_hand():  # SPEC G4, E3
    # One pass reads 100 + 4 * 25 bytes in 0.2 s, and makes four tokens.
    assert reference("tokens_per_second")(100.0, 25.0, 4, 1000.0) == pytest.approx(20)
    assert reference("tokens_per_second")(14e9, 0.0, 1, 50e9) == pytest.approx(3.571428571)


@pytest.mark.parametrize("case", exercise("texts_that_fit").cases)
def test_that_many_caches_fit_and_one_more_does_not(case):  # SPEC G4, E3
    memory, weight_bytes, n_layers, n_kv_heads, head_dim, n_tokens, window = case
    config = ModelConfig(
        vocab_size=16,
        context_length=n_tokens,
        d_model=8,
        n_layers=n_layers,
        n_heads=n_kv_heads,
        d_ff=8,
        head_dim=head_dim,
        sliding_window=window,
    )
    one = KVCache(config, chunk=1, device="meta", dtype=torch.bfloat16).n_bytes
    n_texts = reference("texts_that_fit")(*case)
    free = max(memory - weight_bytes, 0)
    assert n_texts * one <= free < (n_texts + 1) * one


def test_how_many_fit_by_hand():  # SPEC G4, E3
    assert reference("texts_that_fit")(1_000, 200, 1, 1, 10, 10, None) == 2  # 400 bytes each
