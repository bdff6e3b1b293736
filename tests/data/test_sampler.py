"""Every window once an epoch, shared out without overlap, and resumed with the very next batch."""

import json
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.data.packing import TokenWindows
from transformer_lessons.data.sampler import WindowLoader, epoch_order
from transformer_lessons.data.token_files import tokenize_corpus
from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer


def take(sampler, n):
    """The next `n` batches of window numbers."""
    return [batch.tolist() for batch in islice(sampler, n)]


def flat(batches):
    return [window for batch in batches for window in batch]


@given(
    n_windows=st.integers(1, 40),
    batch_size=st.integers(1, 7),
    n_ranks=st.integers(1, 4),
    seed=st.integers(0, 2**63 - 1),
)
def test_all_ranks_together_take_every_window_once_an_epoch(n_windows, batch_size, n_ranks, seed):
    n_steps = -(-3 * n_windows // (batch_size * n_ranks))  # three epochs and a bit
    ranks = [
        take(WindowLoader(range(n_windows), batch_size, seed, rank, n_ranks), n_steps)
        for rank in range(n_ranks)
    ]
    assert all(len(batch) == batch_size for batches in ranks for batch in batches)
    row = [window for step in zip(*ranks, strict=True) for window in flat(step)]
    for epoch in range(3):
        one_epoch = row[epoch * n_windows : (epoch + 1) * n_windows]
        assert sorted(one_epoch) == list(range(n_windows))
        assert one_epoch == epoch_order(n_windows, seed, epoch).tolist()


def test_ranks_are_one_process_with_the_whole_batch_shared_out():
    alone = take(WindowLoader(range(50), batch_size=6, seed=3), 20)
    ranks = [take(WindowLoader(range(50), 2, 3, rank, n_ranks=3), 20) for rank in range(3)]
    assert [flat(step) for step in zip(*ranks, strict=True)] == alone


def test_orders_differ_by_epoch_and_seed_and_are_repeatable():
    orders = {
        (seed, epoch): tuple(epoch_order(100, seed, epoch).tolist())
        for seed in range(5)
        for epoch in range(5)
    }
    assert len(set(orders.values())) == 25
    assert orders[2, 3] == tuple(epoch_order(100, 2, 3).tolist())
    assert all(order != tuple(range(100)) for order in orders.values())


def test_every_window_comes_at_every_place_equally_often():
    counts = np.zeros((6, 6), int)
    for epoch in range(6_000):
        counts[np.arange(6), epoch_order(6, 0, epoch)] += 1
    # 1000 each, within 6 standard deviations: 6 * sqrt(6000 * 1/6 * 5/6) = 173.
    assert (np.abs(counts - 1_000) < 173).all()


@given(n_before=st.integers(0, 30), n_between=st.integers(0, 30), rank=st.integers(0, 1))
def test_a_sampler_resumes_with_the_very_next_batch_twice_in_a_row(n_before, n_between, rank):
    def new():
        return WindowLoader(range(17), batch_size=3, seed=5, rank=rank, n_ranks=2)

    whole = take(new(), 80)
    first = new()
    batches = take(first, n_before)
    second = new()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    batches += take(second, n_between)
    third = new()
    third.load_state_dict(second.state_dict())
    assert [*batches, *take(third, 80 - n_before - n_between)] == whole


def test_another_number_of_processes_goes_on_from_the_same_place():
    first = WindowLoader(range(23), batch_size=4, seed=1)
    row = flat(take(first, 5))
    ranks = [WindowLoader(range(23), 3, 1, rank, n_ranks=2) for rank in range(2)]
    for sampler in ranks:
        sampler.load_state_dict(first.state_dict())
    row += [w for step in zip(*(take(s, 4) for s in ranks), strict=True) for w in flat(step)]
    assert row == flat(take(WindowLoader(range(23), 44, 1), 1))


def test_looking_ahead_moves_nothing():
    loader = WindowLoader(range(10), 2)
    assert loader.numbers(6) == loader.numbers(6) == take(WindowLoader(range(10), 2), 4)[3]
    assert loader.state_dict() == {"n_windows": 10, "seed": 0, "n_taken": 0}


STATE = {"n_windows": 10, "seed": 0, "n_taken": 4}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {**STATE, "n_windows": 11},
            r"^n_windows = 11 in the state, 10 here .*Resume with the same",
        ),
        ({**STATE, "seed": 1}, "^seed = 1 in the state, 0 here"),
        ({**STATE, "n_taken": -1}, "^n_taken = -1 in"),
        ({**STATE, "n_taken": 1.0}, "^n_taken = 1.0 in"),
        ({**STATE, "n_taken": True}, "^n_taken = True in"),
        ({**STATE, "more": 1}, "^a state has n_windows, seed, n_taken"),
        ({"n_windows": 10, "seed": 0}, "^a state has"),
        ([], "^a state has"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(state, message):  # SPEC S7
    sampler = WindowLoader(range(10), 2)
    sampler.load_state_dict(STATE)
    with pytest.raises(LessonsError, match=message):
        sampler.load_state_dict(state)
    assert sampler.n_taken == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_workers": -1}, "n_workers = -1 is not an integer of at least 0"),
        ({"n_workers": True}, "n_workers = True is not an integer of at least 0"),
        ({"batch_size": 0}, "batch_size = 0 is not an integer of at least 1"),
        ({"batch_size": 2.0}, "batch_size = 2.0 is not an integer of at least 1"),
        ({"seed": -1}, "seed = -1 is not an integer from 0 to 2\\*\\*63 - 1"),
        ({"n_ranks": 0}, "n_ranks = 0 is not an integer of at least 1"),
        ({"n_ranks": "2"}, "n_ranks = '2' is not an integer of at least 1"),
        ({"rank": -1}, "rank = -1 is not an integer of at least 0"),
        ({"rank": 2, "n_ranks": 2}, "rank = 2 is not from 0 to 1"),
    ],
)
def test_impossible_numbers_are_refused(changes, message):  # SPEC S7
    name = message.split()[0]
    with pytest.raises(LessonsError, match=rf"^{message} \(WindowLoader\.{name}\)"):
        WindowLoader(**{"windows": range(10), "batch_size": 2, **changes})


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """Eleven windows of 4 bytes; window i begins with the byte 4 i."""
    folder = tmp_path_factory.mktemp("windows")
    (folder / "a.txt").write_bytes(bytes(range(45)))
    tokens = tokenize_corpus(folder / "a.txt", ByteTokenizer(), folder / "a.npy")
    return TokenWindows(tokens, context_length=4)


def same(some, others):
    pairs = zip(some, others, strict=True)
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def test_batches_are_the_samplers_windows(windows):
    numbers = take(WindowLoader(range(11), batch_size=3, seed=2), 12)
    for chosen, (inputs, targets) in zip(numbers, WindowLoader(windows, 3, 2), strict=False):
        expected = torch.tensor(chosen)[:, None] * 4 + torch.arange(4)
        assert torch.equal(inputs, expected)
        assert torch.equal(targets, expected + 1)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_any_number_of_workers_gives_the_same_batches(windows, n_workers):  # SPEC S3
    def draw(n):
        return list(islice(WindowLoader(windows, 3, seed=7, n_workers=n), 20))

    assert same(draw(n_workers), draw(0))


@pytest.mark.parametrize("n_workers", [0, 1, 2])
def test_loading_resumes_with_the_very_next_batch(windows, n_workers):  # SPEC S3
    def new():
        return WindowLoader(windows, batch_size=3, seed=4, n_workers=n_workers)

    whole = list(islice(WindowLoader(windows, batch_size=3, seed=4), 14))
    loaded, state = [], new().state_dict()
    for n_batches in (3, 2, 4, 5):  # the fourth batch goes over the end of an epoch
        loader = new()
        loader.load_state_dict(state)
        batches = iter(loader)  # workers read ahead; it must not count
        for _ in range(n_batches):
            loaded.append(next(batches))
            state = json.loads(json.dumps(loader.state_dict()))
        batches.close()
    assert same(loaded, whole)


@pytest.mark.parametrize("n_workers", [0, 1])
def test_loading_leaves_the_global_random_numbers_alone(windows, n_workers):
    before = torch.random.get_rng_state()
    list(islice(WindowLoader(windows, 3, n_workers=n_workers), 5))
    assert torch.equal(before, torch.random.get_rng_state())


def test_memory_is_pinned_where_there_is_a_gpu(windows, monkeypatch):  # SPEC S3
    asked_for = []
    monkeypatch.setattr(
        "transformer_lessons.data.sampler.DataLoader",
        lambda *_, pin_memory, **__: asked_for.append(pin_memory) or [],
    )
    for is_there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda is_there=is_there: is_there)
        list(WindowLoader(windows, 3))
    assert asked_for == [True, False]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_lie_in_pinned_memory(windows):  # SPEC S3
    inputs, targets = next(iter(WindowLoader(windows, 3, n_workers=1)))
    assert inputs.is_pinned()
    assert targets.is_pinned()
