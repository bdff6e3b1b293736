"""SmolLM2-135M, a model that others trained, in the book's own code. SPEC G5, G9.

Needs the file of 98 MB that `python -m transformer_lessons download smollm2-135m` fetches. Where it
is neither in the cache nor to be had, these tests are skipped; not so in CI, where they must run.
"""

import random
from dataclasses import replace

import gguf
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM

from transformer_lessons.generation.generate import generate
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.presets import preset
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.weights.pretrained import load_gguf

NAME = "smollm2-135m"
N_NEW = 24  # tokens that both continue with
PROMPTS = [
    "The capital of France is",
    "<|im_start|>user\nWhat is 12 + 30?<|im_end|>\n<|im_start|>assistant\n",
    'def fibonacci(n):\n    """The n-th Fibonacci number."""\n',
]


@pytest.fixture(scope="module")
def loaded(smollm2):
    return load_gguf(smollm2)


@pytest.fixture(scope="module")
def theirs(smollm2):
    """The same file in transformers, which turns all of it into float32."""
    model = AutoModelForCausalLM.from_pretrained(
        smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


@pytest.fixture(scope="module")
def their_tokenizer(smollm2):
    """The vocabulary as the package gguf reads it, in `tokenizers`, cut as SmolLM2's own file says.

    That file: Digits, each apart, and then ByteLevel with GPT-2's pattern.
    """
    fields = gguf.GGUFReader(smollm2).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(line.split(" ")) for line in fields["tokenizer.ggml.merges"].contents()]
    types = fields["tokenizer.ggml.token_type"].contents()
    vocab = {token: id for id, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, level])
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == 3]
    assert len(special) == 17
    tokenizer.add_special_tokens(special)
    return tokenizer


def test_the_sizes_are_those_of_the_preset(loaded):  # SPEC G5
    config = loaded[0].config
    assert config.norm_eps == pytest.approx(1e-5, rel=1e-6)  # a float32 in the file
    assert not config.qkv_bias
    assert replace(config, norm_eps=1e-5, qkv_bias=None) == preset(NAME)
    assert count_parameters(loaded[0]) == 134_515_008
    assert loaded[1].n_vocab == config.vocab_size == 49_152


@pytest.mark.parametrize("prompt", PROMPTS)
@torch.no_grad()
def test_logits_are_those_of_transformers(loaded, theirs, prompt):  # SPEC G5
    model, tokenizer = loaded
    tokens = torch.tensor([tokenizer.encode(prompt, "all")])
    own, expected = model(tokens)[0, -1], theirs(tokens).logits[0, -1]
    assert expected.std() > 1
    assert (own - expected).abs().max() < 1e-3


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_answers_are_those_of_transformers(loaded, theirs, prompt):  # SPEC G5
    model, tokenizer = loaded
    ids = tokenizer.encode(prompt, "all")
    end = tokenizer.special_tokens["<|im_end|>"]
    given = {"eos_token_id": end, "pad_token_id": end, "do_sample": False}
    expected = theirs.generate(torch.tensor([ids]), max_new_tokens=N_NEW, **given)[0].tolist()
    assert generate(model, [ids], N_NEW, Sampler(temperature=0), stop={end}) == [
        expected[len(ids) :]
    ]


def test_the_model_knows_something(loaded):  # SPEC G5
    model, tokenizer = loaded
    ids = tokenizer.encode("The capital of France is")
    with torch.no_grad():
        best = model(torch.tensor([ids]))[0, -1].argmax()
    assert tokenizer.decode([int(best)]) == " Paris"


def test_ids_are_those_of_tokenizers(loaded, their_tokenizer):  # SPEC G5, A1
    tokenizer = loaded[1]
    dice, documentation = random.Random(0), python_documentation()
    # The bytes that this vocabulary lacks: six control characters, and what no text has but that of
    # planes 4 to 11, where no character has been assigned.
    lacked = "\x04\x06\x13\x14\x16\x1d"
    assert [chr(byte) for byte in tokenizer.missing_bytes if byte < 128] == list(lacked)
    letters = "aeé ñß日本中ع😀\U000e0001\n\t 0123456789'sStT.,²½"
    texts = ["".join(dice.choices(letters, k=dice.randint(1, 40))) for _ in range(500)]
    for _ in range(100):
        start = dice.randrange(len(documentation))
        texts.append(documentation[start : start + dice.randint(1, 2_000)])
    texts += [chr(code) for code in range(0x3000) if chr(code) not in lacked]
    texts += PROMPTS
    for text in texts:
        ids = tokenizer.encode(text, "all")
        assert ids == their_tokenizer.encode(text).ids, repr(text)
        assert tokenizer.decode(ids) == text
