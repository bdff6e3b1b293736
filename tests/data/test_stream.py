"""Streams of documents: exactly the same batches, wherever the stream is cut and taken up again."""

import itertools
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.config import ModelConfig
from transformer_lessons.data.split import split_of
from transformer_lessons.data.stream import TokenStream, cut_windows
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.trainer import Trainer

END = 256
TOKENIZER = BPETokenizer({i: bytes([i]) for i in range(256)}, [], ["<|endoftext|>"])


class Texts:
    """A source of documents in memory."""

    def __init__(self, texts, name="texts"):
        self.texts, self.name = list(texts), name

    def read(self, start):
        return iter(self.texts[start:])


def expected_row(texts, split="train", validation=0.1, rank=0, n_ranks=1, epochs=3):
    """The ids of a split's documents end to end, a few times over: what a stream has to cut up."""
    row = []
    for _ in range(epochs):
        for number, text in enumerate(texts):
            if number % n_ranks == rank and split_of(text, validation, 0.0) == split:
                row += [*text.encode(), END]
    return row


def take(stream, n_batches):
    return list(itertools.islice(stream, n_batches))


def rows_of(batches):
    """Inputs with the last target behind them: the windows, as lists."""
    pairs = [pair for batch in batches for pair in zip(*batch, strict=True)]
    for inputs, targets in pairs:
        assert inputs[1:].tolist() == targets[:-1].tolist()
    return [[*inputs.tolist(), int(targets[-1])] for inputs, targets in pairs]


# Windows


@given(
    lengths=st.lists(st.integers(0, 9), max_size=12),
    context_length=st.integers(1, 7),
    n_used=st.integers(0, 3),
)
def test_windows_make_every_token_but_the_first_a_target_once(lengths, context_length, n_used):
    numbers = itertools.count()
    documents = [(3 * i, [next(numbers) for _ in range(n)]) for i, n in enumerate([4, *lengths])]
    row = [token for _, ids in documents for token in ids][n_used:]
    windows = list(cut_windows(documents, context_length, (0, n_used)))
    for index, (window, (number, used)) in enumerate(windows):
        start = index * context_length
        assert window == row[start : start + context_length + 1]
        # The place is that of the next window's first token, the last one of this window.
        assert dict(documents)[number][used] == window[-1]
    assert len(windows) == max(0, len(row) - 1) // context_length


# Streams

DOCUMENTS = st.lists(st.text("abcü", max_size=12), min_size=1, max_size=14)


@given(
    texts=DOCUMENTS,
    context_length=st.integers(1, 9),
    batch_size=st.integers(1, 3),
    validation=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    split=st.sampled_from(["train", "validation"]),
    n_ranks=st.integers(1, 3),
)
def test_batches_are_the_documents_of_the_split_end_to_end(
    texts, context_length, batch_size, validation, split, n_ranks
):  # SPEC E8
    for rank in range(n_ranks):
        choices = {"split": split, "validation": validation, "rank": rank, "n_ranks": n_ranks}
        row = expected_row(texts, **choices)
        stream = TokenStream(Texts(texts), TOKENIZER, context_length, batch_size, **choices)
        if not row:
            with pytest.raises(LessonsError, match=f"^no token in the split '{split}'"):
                take(stream, 1)
            continue
        n_batches = (len(row) - 1) // (context_length * batch_size)
        windows = rows_of(take(stream, n_batches))
        assert len(windows) == n_batches * batch_size
        for index, window in enumerate(windows):
            assert window == row[index * context_length :][: context_length + 1]


@given(
    texts=DOCUMENTS,
    context_length=st.integers(1, 9),
    n_ranks=st.integers(1, 2),
    cuts=st.tuples(st.integers(0, 12), st.integers(0, 12)),
    batch_sizes=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
)
def test_a_stream_resumes_with_the_very_next_window_twice_in_a_row(
    texts, context_length, n_ranks, cuts, batch_sizes
):  # SPEC E8
    def new(batch_size, state=None):
        choices = {"validation": 0.3, "rank": n_ranks - 1, "n_ranks": n_ranks}
        stream = TokenStream(Texts(texts), TOKENIZER, context_length, batch_size, **choices)
        if state:
            stream.load_state_dict(json.loads(json.dumps(state)))
        return stream

    try:
        whole = rows_of(take(new(1), 120))
    except LessonsError:
        return  # no token for this process
    resumed, state = [], None
    for batch_size, n_batches in zip(batch_sizes, (*cuts, 12), strict=True):
        stream = new(batch_size, state)
        resumed += rows_of(take(stream, n_batches))
        state = stream.state_dict()
    assert resumed == whole[: len(resumed)]
    assert len(resumed) == sum(b * n for b, n in zip(batch_sizes, (*cuts, 12), strict=True))


def test_another_context_length_goes_on_from_the_same_token():  # SPEC E8
    texts = [chr(97 + i) * (5 + i) for i in range(20)]
    row = expected_row(texts)
    first = TokenStream(Texts(texts), TOKENIZER, 4, batch_size=3)
    take(first, 2)
    second = TokenStream(Texts(texts), TOKENIZER, 10, batch_size=1)
    second.load_state_dict(first.state_dict())
    assert rows_of(take(second, 1)) == [row[24:35]]


def test_the_state_counts_what_was_handed_out():
    stream = TokenStream(Texts(["abcdefgh", "ijklmnop"]), TOKENIZER, 3, 1, validation=0.0)
    batches = iter(stream)
    places = []
    for _ in range(4):
        next(batches)
        places.append((stream.document, stream.n_used))
    assert places == [(0, 3), (0, 6), (1, 0), (1, 3)]


def test_resuming_encodes_one_document_again_at_most():
    encoded = []

    class Counting(BPETokenizer):
        def encode_ordinary(self, text):
            encoded.append(text)
            return super().encode_ordinary(text)

    tokenizer = Counting({i: bytes([i]) for i in range(256)}, [], ["<|endoftext|>"])
    texts = [str(i) * 10 for i in range(40)]
    stream = TokenStream(Texts(texts), tokenizer, 8, batch_size=1, validation=0.0)
    take(stream, 60)
    before = list(encoded)
    encoded.clear()
    again = TokenStream(Texts(texts), tokenizer, 8, batch_size=1, validation=0.0)
    again.load_state_dict(stream.state_dict())
    take(again, 1)
    assert len(before) > 20
    assert len([text for text in encoded if text in before]) == 1


def test_processes_share_the_documents():  # SPEC E8
    texts = [f"{i:03}" for i in range(100)]  # with its end, 4 tokens each: a window of 4
    seen = []
    for rank in range(3):
        stream = TokenStream(Texts(texts), TOKENIZER, 4, 1, validation=0.0, rank=rank, n_ranks=3)
        windows = rows_of(take(stream, len(range(rank, 100, 3))))
        seen.append([int(bytes(window[:3])) for window in windows])
    assert seen == [list(range(rank, 100, 3)) for rank in range(3)]


def test_nine_tenths_are_trained_on_and_no_document_changes_sides():  # SPEC E8
    texts = [f"This is page {i}." for i in range(3000)]

    def split_at(texts, split):
        documents = TokenStream(Texts(texts), TOKENIZER, 8, 1, split=split).documents()
        first, *rest = itertools.islice(documents, 3001)
        return {texts[n] for n, _ in [first, *itertools.takewhile(lambda d: d != first, rest)]}

    train, validation = split_at(texts, "train"), split_at(texts, "validation")
    assert train | validation == set(texts)
    assert not train & validation
    # 300 on average; 6 standard deviations are 6 * sqrt(3000 * 0.1 * 0.9) = 99.
    assert 201 < len(validation) < 399
    assert split_at(texts[::-1], "validation") == validation
    assert split_at(texts[:1000], "validation") == validation & set(texts[:1000])


def test_a_tokenizer_without_an_end_has_none():
    stream = TokenStream(Texts(["abc", "", "de"]), ByteTokenizer(), 4, 1, validation=0.0)
    assert rows_of(take(stream, 2)) == [[*b"abcde"], [*b"eabcd"]]


def test_the_trainer_takes_a_stream():  # SPEC E8
    texts = [f"Page {i}, with ü. " + "x" * (i * 37 % 101) for i in range(18)]
    config = ModelConfig(257, context_length=16, d_model=8, n_layers=1, n_heads=1, d_ff=16)
    torch.manual_seed(0)
    model = Decoder(config)

    def losses(state, n_steps):
        stream = TokenStream(Texts(texts), TOKENIZER, 16, batch_size=2)
        if state:
            stream.load_state_dict(state)
        choices = TrainConfig(steps=n_steps, learning_rate=1e-9, min_learning_rate=0.0)
        reports = Trainer(model, choices, iter(stream)).fit()
        return [round(report.loss, 4) for report in reports], stream.state_dict()

    whole, _ = losses(None, 6)
    first, state = losses(None, 2)
    second, state = losses(state, 3)
    third, _ = losses(state, 1)
    assert len(set(whole)) >= 5  # one would show nothing
    assert first + second + third == whole


STREAM = {"validation": 0.1, "rank": 1, "n_ranks": 2}


def state_after(n_batches):
    stream = TokenStream(Texts([str(i) * 9 for i in range(50)]), TOKENIZER, 8, 2, **STREAM)
    take(stream, n_batches)
    return stream.state_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"source": "other"},
            "^source = 'other' in the state, 'texts' here .* Resume with the same",
        ),
        ({"split": "validation"}, "^split = 'validation' in the state, 'train' here"),
        ({"validation": 0.2}, "^validation = 0.2 in the state, 0.1 here"),
        ({"rank": 0}, "^rank = 0 in the state, 1 here"),
        ({"n_ranks": 4}, "^n_ranks = 4 in the state, 2 here"),
        ({"tokenizer": "ab"}, "^tokenizer = 'ab' in the state"),
        ({"document": -1}, "^document = -1 in the state"),
        ({"document": 1.0}, "^document = 1.0 in the state"),
        ({"document": True}, "^document = True in the state"),
        ({"document": 2**63}, "^document = 9223372036854775808 in the state"),
        ({"n_used": "1"}, "^n_used = '1' in the state"),
        ({"more": 1}, "^a state has split, validation, rank"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(changes, message):  # SPEC E8
    stream = TokenStream(Texts([str(i) * 9 for i in range(50)]), TOKENIZER, 8, 2, **STREAM)
    with pytest.raises(LessonsError, match=message):
        stream.load_state_dict(state_after(3) | changes)
    assert (stream.document, stream.n_used) == (0, 0)
    with pytest.raises(LessonsError, match=r"^a state has"):
        stream.load_state_dict([])


@pytest.mark.parametrize(
    "changes", [{"n_used": 1000}, {"document": 0, "n_used": 3}, {"document": 70, "n_used": 1}]
)
def test_a_place_that_is_not_there_is_refused(changes):  # SPEC E8
    stream = TokenStream(Texts([str(i) * 9 for i in range(50)]), TOKENIZER, 8, 2, **STREAM)
    stream.load_state_dict(state_after(3) | changes)
    with pytest.raises(LessonsError, match=r"^there is no token .* of this split and process"):
        take(stream, 1)


def test_a_place_behind_the_end_is_not_taken_for_one_at_the_beginning():  # SPEC E8
    stream = TokenStream(Texts(["abcdefgh"] * 3), TOKENIZER, 4, 1, validation=0.0)
    stream.load_state_dict(stream.state_dict() | {"document": 3, "n_used": 2})
    with pytest.raises(LessonsError, match=r"^there is no token 2 in a document 3 "):
        take(stream, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_length": 0}, "context_length = 0 is not an integer of at least 1"),
        ({"batch_size": 1.0}, "batch_size = 1.0 is not an integer of at least 1"),
        ({"n_ranks": True}, "n_ranks = True is not an integer of at least 1"),
        ({"rank": -1}, "rank = -1 is not an integer of at least 0"),
        ({"rank": 1}, "rank = 1 is not from 0 to 0"),
        ({"split": "test"}, "split = 'test' is not one of train, validation"),
        ({"validation": 1.1}, "validation = 1.1 is not from 0 to 1"),
        ({"validation": float("nan")}, "validation = nan is not from 0 to 1"),
    ],
)
def test_impossible_choices_are_refused(changes, message):  # SPEC S9
    name = message.split()[0]
    with pytest.raises(LessonsError, match=rf"^{message} \(TokenStream\.{name}\)"):
        TokenStream(Texts("a"), TOKENIZER, **{"context_length": 4, "batch_size": 1, **changes})
