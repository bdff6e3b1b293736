"""Generation against a loop over the whole model; the window slides; neighbours don't matter."""

import math
from itertools import islice

import numpy as np
import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import (
    complete,
    eos_token_ids,
    generate,
    known_tokens,
    stream,
    stream_batch,
)
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer

CONFIG = ModelConfig(30, context_length=6, d_model=16, n_layers=2, n_heads=2, d_ff=16)
GREEDY = Sampler(temperature=0)


@pytest.fixture
def model(random_model):
    return random_model(CONFIG, seed=28).float()  # a seed that does not repeat one token


@pytest.mark.parametrize("prompt", [[3], [1, 2, 3, 4, 5, 6], list(range(15))])
def test_greedy_equals_asking_again_and_again(model, prompt):
    tokens = list(prompt)
    for _ in range(12):
        tokens.append(model(torch.tensor([tokens[-6:]]))[0, -1].argmax().item())
    assert generate(model, [prompt], 12, GREEDY) == [tokens[len(prompt) :]]
    assert len(set(tokens[len(prompt) :])) > 2  # not one token over and over


def test_sampling_equals_a_loop_by_hand(model):
    tokens, generator = [3, 4], torch.Generator().manual_seed(7)
    for _ in range(20):
        shares = (model(torch.tensor([tokens[-6:]]))[0, -1] / 0.7).softmax(-1)
        tokens.append(torch.multinomial(shares, 1, generator=generator).item())
    assert generate(model, [[3, 4]], 20, Sampler(temperature=0.7), seed=7) == [tokens[2:]]


def test_a_long_prompt_counts_with_its_last_context_only(model):  # SPEC F5
    long = [7, 8, 9, 10, 11, 1, 2, 3, 4, 5, 6]
    for seed in range(3):
        expected = generate(model, [[1, 2, 3, 4, 5, 6]], 10, seed=seed)
        assert generate(model, [long], 10, seed=seed) == expected
    shorter = generate(model, [[2, 3, 4, 5, 6]], 10, GREEDY)
    assert shorter != generate(model, [long], 10, GREEDY)


def test_a_continuation_does_not_depend_on_its_neighbours(model):  # SPEC G7
    prompts = [[1], [2, 3, 4], [5, 6]]
    together = generate(model, prompts, 15, seed=10)
    assert together[:2] == generate(model, prompts[:2], 15, seed=10)
    assert together == generate(model, [[1], [2, 3, 4], [5, 6], [9] * 9], 15, seed=10)[:3]
    for row, prompt in enumerate(prompts):
        assert [together[row]] == generate(model, [prompt], 15, seed=10 + row)


def test_equal_prompts_get_different_continuations(model):
    first, second = generate(model, [[1, 2], [1, 2]], 20)
    assert first != second


def test_stream_gives_what_generate_gives(model):
    whole = generate(model, [[1, 2]], 10, Sampler(temperature=0.8), seed=4)[0]
    assert list(stream(model, [1, 2], 10, Sampler(temperature=0.8), seed=4)) == whole
    assert list(islice(stream(model, [1, 2], 10**9, Sampler(temperature=0.8), seed=4), 10)) == whole


def test_the_seed_decides(model):
    assert generate(model, [[1]], 20, seed=1) == generate(model, [[1]], 20, seed=1)
    assert generate(model, [[1]], 20, seed=1) != generate(model, [[1]], 20, seed=2)


def test_the_scores_are_the_models_own(model):  # whatever the temperature of the choice
    tokens = [3, 4]
    for number, token, logits in stream_batch(model, [tokens], 15, Sampler(temperature=0.3)):
        assert number == 0
        torch.testing.assert_close(logits, model(torch.tensor([tokens[-6:]]))[0, -1])
        tokens = [*tokens, token]


def test_text_in_and_text_out():
    torch.manual_seed(0)
    model, tokenizer = Decoder(preset("fluctlight")), ByteTokenizer()
    [tokens] = generate(model, [b"ab"], 40, Sampler(0.8), seed=3)
    text = tokenizer.decode(tokens)
    assert complete(model, tokenizer, "ab", 40, Sampler(0.8), seed=3) == text
    stop = text[5:7]
    assert text.index(stop) == 5
    assert complete(model, tokenizer, "ab", 40, Sampler(0.8), [stop], 3) == text[:5]
    assert len(complete(model, tokenizer, "ab")) <= 100


def test_a_completion_ends_at_the_end_of_text():
    torch.manual_seed(0)
    config = ModelConfig(257, 16, d_model=8, n_layers=1, n_heads=2, d_ff=8)
    model, tokenizer = Decoder(config), BPETokenizer.train("", 257, ["<|endoftext|>"])
    with torch.no_grad():
        model.head.bias[256] = 100.0
    assert complete(model, tokenizer, "a<|endoftext|>") == ""


def test_no_new_tokens_and_no_prompts(model):
    assert generate(model, [[1], [2]], 0) == [[], []]
    assert generate(model, [], 5) == []


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_as_before(model, training):
    model.train(training)
    prompt = [1, 2]
    steps = stream(model, prompt, 3)
    next(steps)
    assert model.training is training  # between two tokens, too
    assert model(torch.tensor([[1]])).requires_grad
    list(steps)
    assert prompt == [1, 2]
    assert model.training is training


def test_dropout_is_off():  # SPEC F4
    torch.manual_seed(0)
    model = Decoder(ModelConfig(30, 6, d_model=32, n_layers=1, n_heads=1, d_ff=8, dropout=0.9))
    model.train()
    assert generate(model, [[1]], 20, GREEDY) == generate(model, [[1]], 20, GREEDY)


@pytest.mark.parametrize(
    ("prompt", "n_new", "message"),
    [
        ([], 3, r"^the prompt is empty\. Give at least one token"),
        (b"", 3, r"^the prompt is empty"),
        ([1, 2, 30], 3, r"^token 30 is not in the vocabulary of 30 \(prompt, position 2\)"),
        ([-1], 3, r"^token -1 is not in the vocabulary of 30 \(prompt, position 0\)"),
        (["1"], 3, r"^not token ids: \['1'\] \(prompt\)\. Text becomes ids by"),
        ("ab", 3, r"^not token ids: 'ab' \(prompt\)"),
        ([1.0], 3, r"^not token ids: \[1\.0\] \(prompt\)"),
        ([1], "3", r"^max_new_tokens = '3' is not an integer"),
        ([1], 2.0, r"^max_new_tokens = 2\.0 is not an integer"),
        ([1], -1, r"^max_new_tokens = -1 is not an integer of at least 0"),
    ],
)
def test_a_prompt_that_makes_no_sense_is_refused(model, prompt, n_new, message):  # SPEC S6
    with pytest.raises(LessonsError, match=message):
        generate(model, [prompt], n_new)
    with pytest.raises(LessonsError, match=message):
        next(stream(model, prompt, n_new))


def test_bytes_are_a_prompt():
    torch.manual_seed(0)
    model = Decoder(preset("fluctlight"))
    assert generate(model, [b"ab"], 5) == generate(model, [[97, 98]], 5)


# Wrong and unusual input


@pytest.mark.parametrize("prompts", [[97, 98], "hello", [1.5], [None]])
def test_a_forgotten_outer_list_and_text_are_named(model, prompts):
    message = r"^not token ids: .* \(prompt\)\. .* one prompt becomes many by `\[ids\]`\.$"
    with pytest.raises(LessonsError, match=message):
        generate(model, prompts, 2)
    with pytest.raises(LessonsError, match=message):
        next(stream_batch(model, prompts, 2))


@pytest.mark.parametrize("n_samples", [0, -1, "2", 1.5, None])
def test_a_number_of_samples_that_makes_no_sense(model, n_samples):
    with pytest.raises(LessonsError, match=r"n_samples = .* is not an integer of at least 1"):
        generate(model, [[1]], 2, n_samples=n_samples)


@pytest.mark.parametrize("stop", [5, "end", ["end"], [30], [-1]])
def test_stop_tokens_are_token_ids(model, stop):
    with pytest.raises(LessonsError, match=r"\(stop"):
        generate(model, [[1]], 2, stop=stop)


@pytest.mark.parametrize(
    "prompts",
    [
        torch.tensor([[1, 2], [3, 4]]),
        torch.tensor([[1, 2], [3, 4]], dtype=torch.uint16),
        np.array([[1, 2], [3, 4]], dtype=np.uint16),
        [(1, 2), np.array([3, 4])],
    ],
)
def test_tensors_and_arrays_are_prompts(model, prompts):
    assert generate(model, prompts, np.int64(5)) == generate(model, [[1, 2], [3, 4]], 5)


# Where texts end


def test_a_stop_token_ends_its_text_and_no_other(model):
    prompts, n = [[1], [2, 3, 4], [5, 6]], 15
    free = generate(model, prompts, n, seed=10)
    stop = free[0][4]
    expected = [row[: row.index(stop) + 1] if stop in row else row for row in free]
    assert len(expected[0]) <= 5
    assert len({len(row) for row in expected}) > 1  # they end at different places
    made = [[] for _ in prompts]
    for number, token, _ in stream_batch(model, prompts, n, seed=10, stop=[stop]):
        made[number].append(token)
    assert made == expected == generate(model, prompts, n, seed=10, stop=[stop])


@pytest.fixture
def padded():
    """A model of 320 ids that likes the highest best, and a tokenizer of 300 with ids to spare."""
    torch.manual_seed(0)
    model = Decoder(ModelConfig(320, 16, d_model=8, n_layers=1, n_heads=2, d_ff=8))
    with torch.no_grad():
        model.head.bias.copy_(torch.linspace(0, 5, 320))
    letters = {i: bytes([i]) for i in range(256)}
    return model, BPETokenizer(letters | {299: b"ab"}, [(b"a", b"b")])  # 256 to 298: a gap


def test_ids_that_the_tokenizer_lacks_are_known(padded):
    _, tokenizer = padded
    known = known_tokens(tokenizer, 320)
    assert known.nonzero().flatten().tolist() == [*range(256), 299]
    assert known_tokens(tokenizer, 200).all()  # a smaller model


def test_ids_that_the_tokenizer_lacks_are_never_drawn(padded):
    model, tokenizer = padded
    known = known_tokens(tokenizer, 320)
    assert not known[generate(model, [[97]], 30)[0]].all()
    drawn = generate(model, [[97]], 30, allowed=known)[0]
    assert set(drawn) <= {*range(256), 299}
    assert len(set(drawn)) > 3
    assert list(stream(model, [97], 30, allowed=known)) == drawn
    for _, _, logits in stream_batch(model, [[97]], 3, allowed=known):
        assert torch.equal(logits.isfinite(), known)
    assert complete(model, tokenizer, "a", 30) == tokenizer.decode(drawn)
    # The choice is that of a model without these ids: its own scores, the others never.
    shares = model(torch.tensor([[97]]))[0, -1].masked_fill(~known, -math.inf).softmax(-1)
    first = torch.multinomial(shares, 1, generator=torch.Generator().manual_seed(0))
    assert drawn[0] == first.item()


def test_a_special_token_is_known_and_so_is_an_end_without_a_name():
    tokenizer = BPETokenizer.train("", 257, ["<|mine|>"])
    assert known_tokens(tokenizer, 260).tolist() == [True] * 257 + [False] * 3
    tokenizer.eos_ids = (258,)
    assert known_tokens(tokenizer, 260).tolist() == [True] * 257 + [False, True, False]


@pytest.mark.parametrize("allowed", [torch.ones(30), torch.ones(29, dtype=torch.bool)])
def test_what_is_allowed_is_a_boolean_for_each_token(model, allowed):
    with pytest.raises(LessonsError, match=r"not 30 booleans \(allowed\)"):
        generate(model, [[1]], 2, allowed=allowed)


def test_the_ends_are_those_of_the_models_files_and_the_known_names():
    tokenizer = BPETokenizer.train("", 260, ["<eos>", "</s>", "<|mine|>"])
    assert eos_token_ids(tokenizer) == {tokenizer.special_tokens["</s>"]}
    tokenizer.eos_ids = (tokenizer.special_tokens["<eos>"], 300)
    assert eos_token_ids(tokenizer) == {256, 257, 300}
    assert eos_token_ids(ByteTokenizer()) == set()


@pytest.mark.parametrize("end", [10, 319])  # an ordinary token, and one that has no name
def test_a_completion_ends_at_the_models_own_end(padded, end):
    model, tokenizer = padded
    tokenizer.eos_ids = (end,)
    with torch.no_grad():
        model.head.bias[end] = 1000.0
    assert complete(model, tokenizer, "a", 30) == ""
