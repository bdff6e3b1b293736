"""Losses over a whole text: every real target counts the same."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import IGNORE, consecutive_windows
from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.training.evaluate import (
    Evaluation,
    evaluate,
    token_lengths,
    unigram_loss,
)

CONFIG = ModelConfig(20, context_length=8, d_model=8, n_layers=1, n_heads=2, d_ff=4)


def uneven_batches():
    """Three batches with 16, 3 and 1 real targets."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for n_rows, n_tokens, n_real in [(2, 8, 16), (1, 8, 3), (1, 2, 1)]:
        inputs, targets = torch.randint(20, (2, n_rows, n_tokens), generator=generator)
        targets.view(-1)[n_real:] = IGNORE
        batches.append((inputs, targets))
    return batches


def test_the_loss_is_the_mean_over_targets_not_over_batches(random_model):  # SPEC E5
    model, batches = random_model(CONFIG), uneven_batches()
    sums, counts = [], []
    for inputs, targets in batches:
        logits = model(inputs).flatten(0, 1)
        sums.append(functional.cross_entropy(logits, targets.flatten(), reduction="sum").item())
        counts.append((targets >= 0).sum().item())
    assert counts == [16, 3, 1]
    result = evaluate(model, batches)
    assert result.loss == pytest.approx(sum(sums) / 20, rel=1e-12)
    assert result.n_targets == 20
    mean_of_means = sum(s / n for s, n in zip(sums, counts, strict=True)) / 3
    assert abs(mean_of_means - result.loss) > 0.01  # the two would differ here


def test_however_the_text_is_cut_into_batches_the_loss_is_the_same(random_model):
    model, tokens = random_model(CONFIG), torch.arange(46) % 20
    results = [evaluate(model, consecutive_windows(tokens, 8, size)) for size in (1, 2, 5)]
    assert [result.n_targets for result in results] == [45, 45, 45]
    for result in results[1:]:
        assert result.loss == pytest.approx(results[0].loss, rel=1e-6)


def test_a_batch_without_real_targets_changes_nothing(random_model):
    model, batches = random_model(CONFIG), uneven_batches()
    empty = (torch.zeros(1, 4, dtype=torch.long), torch.full((1, 4), IGNORE))
    assert evaluate(model, [batches[0], empty, *batches[1:]]) == evaluate(model, batches)


@pytest.mark.parametrize("batches", [[], [(torch.zeros(1, 2).long(), torch.full((1, 2), -100))]])
def test_nothing_to_evaluate_on_is_refused(random_model, batches):
    with pytest.raises(LessonsError, match="no targets to evaluate on"):
        evaluate(random_model(CONFIG), batches)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_comes_back_and_no_gradient_is_left(random_model, training):
    model = random_model(CONFIG).train(training)
    evaluate(model, uneven_batches())
    assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_dropout_is_off(random_model):  # SPEC F4
    config = ModelConfig(20, 8, d_model=32, n_layers=1, n_heads=2, d_ff=4, dropout=0.5)
    model = random_model(config).train()
    assert evaluate(model, uneven_batches()) == evaluate(model, uneven_batches())


def test_perplexity_and_bits_per_byte():  # SPEC E5
    result = Evaluation(loss=math.log(256), n_targets=1)
    assert result.perplexity == pytest.approx(256)
    assert result.bits_per_byte == pytest.approx(8)


@given(
    train=st.lists(st.integers(0, 6), max_size=40),
    held_out=st.lists(st.integers(0, 6), min_size=1, max_size=40),
)
def test_unigram_loss_equals_counting_by_hand(train, held_out):
    counts = Counter(train)
    shares = [(counts[token] + 1) / (len(train) + 7) for token in range(7)]
    expected = -sum(math.log(shares[token]) for token in held_out) / len(held_out)
    tokens = torch.tensor(train, dtype=torch.long)
    got = unigram_loss(tokens, torch.tensor(held_out), vocab_size=7)
    assert got == pytest.approx(expected, rel=1e-12)


PAIRS = {b"th": 256, b"e ": 257, b"the ": 258}
BPE = BPETokenizer(
    {**{i: bytes([i]) for i in range(256)}, **{i: pair for pair, i in PAIRS.items()}},
    [(b"t", b"h"), (b"e", b" "), (b"th", b"e ")],
    ["<|endoftext|>"],
)


def test_the_bytes_of_all_targets_are_the_text(random_model):  # SPEC E5
    """Whatever the tokenizer: so the bits are shared out among the same number of bytes."""
    text = "the cat, the hat and the ümlaut. " * 3
    for tokenizer in (ByteTokenizer(), BPE):
        model = random_model(ModelConfig(tokenizer.n_vocab, 8, 8, 1, 2, 4))
        ids = torch.tensor(tokenizer.encode_ordinary(text))
        lengths = token_lengths(tokenizer)
        result = evaluate(model, consecutive_windows(ids, 8, 3), lengths)
        assert result.n_targets == len(ids) - 1
        assert result.n_bytes == len(text.encode()) - int(lengths[ids[0]])  # the first is no target
        bits = result.loss * (len(ids) - 1) / math.log(2)
        assert result.bits_per_byte == pytest.approx(bits / result.n_bytes, rel=1e-12)


def test_a_sure_guess_costs_the_same_bits_with_either_tokenizer():  # SPEC E5
    """4 bits for "the " as one token of ln 16 nats, or as four bytes of 1 bit each."""
    one = Evaluation(math.log(16), n_targets=100, n_bytes=400)
    four = Evaluation(math.log(2), n_targets=400)
    assert one.bits_per_byte == pytest.approx(four.bits_per_byte) == pytest.approx(1.0)
    assert one.perplexity != pytest.approx(four.perplexity)


def test_special_tokens_are_no_text():  # SPEC E5
    lengths = token_lengths(BPE)
    assert lengths.tolist() == [1] * 256 + [2, 2, 4, 0]


def test_a_loss_beyond_all_bounds_has_a_perplexity():
    assert Evaluation(700.0, 1).perplexity == pytest.approx(math.exp(700))
    assert Evaluation(1e6, 1).perplexity == math.inf
    assert math.isnan(Evaluation(math.nan, 1).perplexity)
