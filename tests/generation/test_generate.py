"""Generation against a loop over the whole model; the window slides; neighbours don't matter."""

from itertools import islice

import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import complete, generate, stream, stream_batch
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
        ([1], -1, r"^max_new_tokens = -1 is below 0"),
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
