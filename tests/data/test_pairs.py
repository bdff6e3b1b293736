"""Pair files: what is written is read, and a bad line is named; only outputs are learned."""

import base64
import random
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.data.pairs import (
    collate,
    crop_example,
    pair_batches,
    pair_example,
    read_pairs,
    write_pairs,
)
from transformer_lessons.errors import LessonsError

PAIRS = st.tuples(st.binary(max_size=12), st.binary(min_size=1, max_size=12)).filter(
    lambda pair: len(pair[0] + pair[1]) >= 2
)


@given(st.lists(PAIRS, min_size=1, max_size=8))
def test_what_is_written_is_read(tmp_path_factory, pairs):  # SPEC F7
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    write_pairs(path, pairs)
    assert read_pairs(path) == pairs


def test_the_format_on_disk(tmp_path):  # SPEC F7
    path = tmp_path / "pairs.tsv"
    write_pairs(path, [(b"ab", b"abab"), (b"", b"\t\n"), (b"\r\n\x00\xff", b"=")])
    expected = b""
    for source, answer in [(b"ab", b"abab"), (b"", b"\t\n"), (b"\r\n\x00\xff", b"=")]:
        expected += base64.b64encode(source) + b"\t" + base64.b64encode(answer) + b"\n"
    assert path.read_bytes() == expected
    assert path.read_bytes().startswith(b"YWI=\tYWJhYg==\n")


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b""])
def test_line_endings(tmp_path, ending):  # SPEC F7
    path = tmp_path / "pairs.tsv"
    path.write_bytes(b"YQ==\tYg==\nYw==\tZA==" + ending)
    assert read_pairs(path) == [(b"a", b"b"), (b"c", b"d")]


def test_a_byte_order_mark_is_understood_and_utf_16_named(tmp_path):  # SPEC F7
    path, text = tmp_path / "pairs.tsv", "YQ==\tYg==\r\nYw==\tZA==\r\n"
    path.write_bytes(text.encode("utf-8-sig"))
    assert read_pairs(path) == [(b"a", b"b"), (b"c", b"d")]
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(LessonsError, match=r"UTF-16.*pairs\.tsv.*Save it as UTF-8"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"YWI=", "1 tab-separated fields instead of 2"),
        (b"", "1 tab-separated fields instead of 2"),
        (b"YWI= YWI=", "1 tab-separated fields instead of 2"),
        (b"YWI=\tYWI=\tYWI=", "3 tab-separated fields instead of 2"),
        (b"YW!=\tYWI=", "not base64: "),
        (b"YWI=\tYWI", "not base64: "),
        (b"YWI=\t YWI=", "not base64: "),
        (b"YWI=\tYWI\xc3\xa9", "not base64: "),
        (b"YWI=\t", "nothing to predict in this pair"),
        (b"\tYQ==", "nothing to predict in this pair"),
        (b"\t", "nothing to predict in this pair"),
    ],
)
def test_a_bad_line_is_named_with_file_and_line(tmp_path, line, what):  # SPEC F7
    path = tmp_path / "pairs.tsv"
    path.write_bytes(b"YQ==\tYg==\nYQ==\tYg==\n" + line + b"\nYQ==\tYg==\n")
    with pytest.raises(LessonsError) as caught:
        read_pairs(path)
    assert caught.value.what.startswith(what)
    assert caught.value.where == f"{path}, line 3"
    assert caught.value.remedy


def test_an_empty_file_is_named(tmp_path):  # SPEC F7
    path = tmp_path / "pairs.tsv"
    path.write_bytes(b"")
    with pytest.raises(LessonsError, match=r"no pairs in the file \(.*pairs\.tsv\)"):
        read_pairs(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):  # SPEC F7
    with pytest.raises(LessonsError, match=r"can't read the pairs: No such file .*absent\.tsv"):
        read_pairs(tmp_path / "absent.tsv")
    with pytest.raises(LessonsError, match="can't read the pairs: Is a directory"):
        read_pairs(tmp_path)


def mutated(data: bytes, dice: random.Random) -> bytes:
    """`data` after one to three random accidents."""
    for _ in range(dice.randint(1, 3)):
        place = dice.randrange(len(data) + 1)
        end = place + dice.randint(1, 4)
        junk = bytes(dice.choices(b"\t\n\r=+/Az09 \x00\xff-_", k=dice.randint(1, 3)))
        accidents = [
            data[:place] + junk + data[place:],
            data[:place] + data[end:],
            data[:place] + junk + data[place + len(junk) :],
            data[:place],
            data[place:] + data[:place],
        ]
        data = dice.choice(accidents)
    return data


def outcome_of_reading(path):
    """The pairs, or where the error is; any other exception is a failure of the test."""
    try:
        return read_pairs(path)
    except LessonsError as error:
        return error.where


def test_a_mutated_file_gives_pairs_or_names_a_line(tmp_path):  # SPEC F7, S9
    dice, path = random.Random(0), tmp_path / "pairs.tsv"
    write_pairs(path, [(b"ab", b"abab"), (b"hello, ", b"world\n"), (b"\x00\xff", b"\t")])
    good, n_read = path.read_bytes(), 0
    for _ in range(2_000):
        data = mutated(good, dice)
        path.write_bytes(data)
        outcome = outcome_of_reading(path)
        if isinstance(outcome, str):
            try:
                assert outcome.startswith(f"{path}, line ") or not data.decode("utf-8")
            except UnicodeDecodeError:
                assert outcome == str(path)
            continue
        n_read += 1
        fields = [line.split(b"\t") for line in data.splitlines()]
        assert outcome == [(base64.b64decode(a), base64.b64decode(b)) for a, b in fields]
    assert 100 < n_read < 1_900  # both ends were reached


@pytest.mark.parametrize(
    ("pair", "inputs", "targets"),
    [
        ((b"ab", b"cd"), [97, 98, 99], [IGNORE, 99, 100]),
        ((b"a", b"bcd"), [97, 98, 99], [98, 99, 100]),
        ((b"", b"abc"), [97, 98], [98, 99]),
        ((b"abc", b"d"), [97, 98, 99], [IGNORE, IGNORE, 100]),
        ((b"\xff", b"\x00"), [255], [0]),
    ],
)
def test_targets_are_the_output_only(pair, inputs, targets):  # SPEC F7
    got_inputs, got_targets = pair_example(pair)
    assert (got_inputs.tolist(), got_targets.tolist()) == (inputs, targets)
    assert got_inputs.dtype == got_targets.dtype == torch.int64


@pytest.mark.parametrize("pair", [(b"", b""), (b"abc", b""), (b"", b"a")])
def test_a_pair_without_a_target_is_refused(pair):  # SPEC F7
    with pytest.raises(LessonsError, match="nothing to predict in this pair"):
        pair_example(pair)
    with pytest.raises(LessonsError, match="nothing to predict in this pair"):
        next(pair_batches([(b"a", b"b"), pair], context_length=4, batch_size=2))


def test_batches_of_no_pairs_are_refused():
    with pytest.raises(LessonsError, match="no pairs"):
        next(pair_batches([], context_length=4, batch_size=2))


def test_collate_pads_on_the_right_and_never_learns_the_padding():  # SPEC F7
    inputs, targets = collate([pair_example((b"ab", b"cd")), pair_example((b"", b"xy"))])
    assert inputs.tolist() == [[97, 98, 99], [120, 0, 0]]
    assert targets.tolist() == [[IGNORE, 99, 100], [121, IGNORE, IGNORE]]


@given(
    n_source=st.integers(0, 9),
    n_answer=st.integers(1, 9),
    context_length=st.integers(1, 9),
    seed=st.integers(0, 20),
)
def test_a_crop_is_a_window_with_something_to_learn(n_source, n_answer, context_length, seed):
    if n_source + n_answer < 2:
        return
    data = bytes(range(n_source + n_answer))  # every byte tells where it was
    inputs, targets = pair_example((data[:n_source], data[n_source:]))
    generator = torch.Generator().manual_seed(seed)
    cropped, learned = crop_example(inputs, targets, context_length, generator)
    start = cropped[0].item()
    assert len(cropped) == min(context_length, len(inputs))
    assert torch.equal(cropped, inputs[start : start + len(cropped)])
    assert torch.equal(learned, targets[start : start + len(cropped)])
    assert bool((learned != IGNORE).any())


@pytest.mark.parametrize(("n_source", "n_answer"), [(6, 4), (0, 10), (1, 9), (9, 1)])
def test_every_window_with_something_to_learn_is_drawn(n_source, n_answer):
    data, context_length = bytes(range(10)), 3
    inputs, targets = pair_example((data[:n_source], data[n_source:]))
    starts = range(len(inputs) - context_length + 1)
    learned = {s for s in starts if (targets[s : s + context_length] != IGNORE).any()}
    generator = torch.Generator().manual_seed(0)
    crops = [crop_example(inputs, targets, context_length, generator) for _ in range(300)]
    assert {cropped[0].item() for cropped, _ in crops} == learned


def epochs(n_pairs, batch_size, seed, n_epochs=3):
    """The first bytes of the pairs in each epoch, batch by batch."""
    pairs = [(bytes([i]), b"answer") for i in range(n_pairs)]
    batches = pair_batches(pairs, context_length=16, batch_size=batch_size, seed=seed)
    n_batches = -(-n_pairs // batch_size)
    return [[next(batches)[0][:, 0].tolist() for _ in range(n_batches)] for _ in range(n_epochs)]


@pytest.mark.parametrize(("n_pairs", "batch_size"), [(10, 4), (8, 4), (3, 8), (1, 1)])
def test_every_epoch_has_every_pair_once(n_pairs, batch_size):
    for epoch in epochs(n_pairs, batch_size, seed=0):
        assert sorted(chain.from_iterable(epoch)) == list(range(n_pairs))
        assert all(len(batch) == batch_size for batch in epoch[:-1])


def test_the_order_is_new_in_each_epoch_and_set_by_the_seed():
    first, second, third = epochs(20, 5, seed=0)
    assert first != second != third
    assert epochs(20, 5, seed=0) == [first, second, third]
    assert epochs(20, 5, seed=1)[0] != first


def test_crops_are_set_by_the_seed_and_leave_the_global_random_numbers_alone():
    def crops(seed):
        pairs = [(b"", bytes(range(100)))]
        batches = pair_batches(pairs, context_length=4, batch_size=1, seed=seed)
        return [next(batches)[0][0, 0].item() for _ in range(10)]

    before = torch.random.get_rng_state()
    assert crops(seed=0) == crops(seed=0)
    assert crops(seed=0) != crops(seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
