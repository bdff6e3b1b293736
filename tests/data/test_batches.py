"""Windows: random ones are fair to both ends of the text; consecutive ones miss nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.data import batches_from_text
from transformer_lessons.data.batches import consecutive_windows, random_windows
from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer


def draw(tokens, n_batches, **options):
    batches = random_windows(tokens, **options)
    return [next(batches) for _ in range(n_batches)]


def test_a_random_window_is_a_window():
    tokens = torch.arange(100) * 7
    for inputs, targets in draw(tokens, 20, context_length=9, batch_size=5):
        assert inputs.shape == targets.shape == (5, 9)
        for row, aims in zip(inputs, targets, strict=True):
            start = row[0].item() // 7
            assert torch.equal(row, tokens[start : start + 9])
            assert torch.equal(aims, tokens[start + 1 : start + 10])


@pytest.mark.parametrize(("n_tokens", "context_length"), [(12, 4), (5, 4), (6, 4), (2, 1)])
def test_every_window_is_drawn_the_last_one_too(n_tokens, context_length):
    tokens = torch.arange(n_tokens)
    n_windows = n_tokens - context_length  # each is one token longer than the context
    batches = draw(tokens, 1, context_length=context_length, batch_size=1_000 * n_windows)
    counts = torch.bincount(batches[0][0][:, 0])
    assert len(counts) == n_windows
    # Equally often: counts are within 6 standard deviations (6 * sqrt(1000)) of 1000.
    assert bool(((counts - 1_000).abs() < 190).all())


def test_the_seed_decides():
    tokens, options = torch.arange(1_000), {"context_length": 8, "batch_size": 4}
    same = [draw(tokens, 5, seed=3, **options) for _ in range(2)]
    for (inputs, targets), (inputs_again, targets_again) in zip(*same, strict=True):
        assert torch.equal(inputs, inputs_again)
        assert torch.equal(targets, targets_again)
    other = draw(tokens, 5, seed=4, **options)
    assert not torch.equal(other[0][0], same[0][0][0])
    assert not torch.equal(same[0][0][0], same[0][1][0])  # and no batch repeats the one before


def test_drawing_leaves_the_global_random_numbers_alone():
    before = torch.random.get_rng_state()
    draw(torch.arange(50), 3, context_length=4, batch_size=2)
    assert torch.equal(before, torch.random.get_rng_state())


@given(n_tokens=st.integers(2, 60), context_length=st.integers(1, 20), batch_size=st.integers(1, 6))
def test_consecutive_windows_have_every_target_once(n_tokens, context_length, batch_size):
    tokens = torch.arange(n_tokens) * 3 + 1
    batches = list(consecutive_windows(tokens, context_length, batch_size))
    seen_inputs = torch.cat([inputs.flatten() for inputs, _ in batches])
    seen_targets = torch.cat([targets.flatten() for _, targets in batches])
    assert torch.equal(seen_inputs, tokens[:-1])
    assert torch.equal(seen_targets, tokens[1:])
    for inputs, targets in batches:
        assert inputs.shape == targets.shape
        assert 1 <= inputs.shape[0] <= batch_size
        assert 1 <= inputs.shape[1] <= context_length
    whole = [batch for batch in batches if batch[0].shape[1] == context_length]
    n_windows = sum(len(inputs) for inputs, _ in whole)
    assert n_windows == (n_tokens - 1) // context_length


@pytest.mark.parametrize("n_tokens", [0, 1, 4])
def test_a_text_too_short_for_a_window_is_refused(n_tokens):
    tokens = torch.zeros(n_tokens, dtype=torch.long)
    with pytest.raises(LessonsError, match=f"^{n_tokens} tokens, but 5 are needed"):
        next(random_windows(tokens, context_length=4, batch_size=2))


@pytest.mark.parametrize("n_tokens", [0, 1])
def test_a_text_without_a_target_is_refused(n_tokens):
    tokens = torch.zeros(n_tokens, dtype=torch.long)
    with pytest.raises(LessonsError, match=f"^{n_tokens} tokens, but 2 are needed"):
        next(consecutive_windows(tokens, context_length=4, batch_size=2))


def test_batches_from_text_hold_out_the_end(tmp_path):  # SPEC A5
    text = "".join(chr(97 + i % 26) for i in range(200))
    batches, held_out = batches_from_text(text, ByteTokenizer(), 8, batch_size=3, held_out=0.25)
    assert bytes(held_out.tolist()) == text[150:].encode()
    expected = draw(torch.tensor(list(text[:150].encode())), 4, context_length=8, batch_size=3)
    drawn = iter(batches)
    for inputs, targets in expected:
        again = next(drawn)
        assert torch.equal(inputs, again[0])
        assert torch.equal(targets, again[1])
    assert batches.state_dict() == {"n_taken": 4}  # what a checkpoint keeps


def test_batches_from_text_read_a_path_of_documents(tmp_path):
    tokenizer = BPETokenizer({i: bytes([i]) for i in range(256)}, [], ["<|endoftext|>"])
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.jsonl").write_text('{"text": "two"}\n{"text": "three"}\n')
    _, tokens = batches_from_text(tmp_path, tokenizer, 1, 1, held_out=0.8)
    row = [*b"one", 256, *b"two", 256, *b"three", 256]
    assert tokens.tolist() == row[-11:]


def test_batches_from_text_refuse_what_is_too_short_or_damaged(tmp_path):  # SPEC S9
    with pytest.raises(LessonsError, match=r"^6 tokens, but 17 are needed.* given as a Path"):
        batches_from_text("my.txt", ByteTokenizer(), 16, 4, held_out=0.0)
    (tmp_path / "a.txt").write_bytes(b"x" * 99 + b"\xff")
    with pytest.raises(LessonsError, match=r"^not UTF-8: byte 99 \(.*a\.txt\)"):
        batches_from_text(tmp_path / "a.txt", ByteTokenizer(), 16, 4)
