"""How published models cut text: as their own tokenizer.json says, run by `tokenizers`."""

import itertools
import random

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from transformer_lessons.support.tokenizer_json import HUGGINGFACE_PATTERNS
from transformer_lessons.tokenizers.pretokenizer import pretokenize

# As they are in the tokenizer.json of Qwen2.5 and Llama 3; SmolLM2 has no pattern but two steps.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def cut_by(pattern):
    return pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")


PUBLISHED = {
    "smollm2": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    ),
    "llama3": cut_by(LLAMA3),
    "qwen2": cut_by(QWEN2),
}
ALL = pytest.mark.parametrize("name", PUBLISHED)
TELLING = "a'sSlLvVrRedtmſ1٣²! \t\n\r\x0b\x1c\u00a0\u2003\u0301é日😀_"
TEXTS = st.text(st.one_of(st.sampled_from(TELLING), st.characters(exclude_categories=["Cs", "Cn"])))


def pretokens_of(pre_tokenizer, text):
    """The pieces of `text` itself: ByteLevel spells them differently, but says where they are."""
    spans = [span for _, span in pre_tokenizer.pre_tokenize_str(text)] if text else []
    return [text[start:end] for start, end in spans]


@ALL
@given(text=TEXTS)
@settings(max_examples=300)
@example("a  1")
@example(" 12 ' 3's")
@example("x \n ")
def test_any_text_is_cut_as_published(name, text):  # SPEC A1
    assert pretokenize(text, name) == pretokens_of(PUBLISHED[name], text)


@ALL
def test_long_texts_are_cut_as_published(name):  # SPEC A1
    dice = random.Random(0)
    for _ in range(300):
        text = "".join(dice.choices(TELLING, k=dice.randint(20, 200)))
        assert pretokenize(text, name) == pretokens_of(PUBLISHED[name], text), repr(text)


@ALL
@pytest.mark.parametrize("letters", ["a \n\r!1", "\u00a0 \t1a", "'sSl1 "])
def test_all_short_texts_are_cut_as_published_and_as_exported(name, letters):  # SPEC A1
    exported = cut_by(HUGGINGFACE_PATTERNS[name])
    for text in map("".join, itertools.product(letters, repeat=5)):
        expected = pretokens_of(PUBLISHED[name], text)
        assert pretokenize(text, name) == expected, repr(text)
        assert pretokens_of(exported, text) == expected, repr(text)


@ALL
@given(text=TEXTS)
@settings(max_examples=200)
def test_the_exported_pattern_cuts_any_text_alike(name, text):  # SPEC A1
    assert pretokens_of(cut_by(HUGGINGFACE_PATTERNS[name]), text) == pretokenize(text, name)


@pytest.mark.parametrize(
    ("name", "pretokens"),
    [
        ("smollm2", ["In", " ", "1", "9", "8", "4", ",", " don", "'t", " ", " X"]),
        ("llama3", ["In", " ", "198", "4", ",", " don", "'t", " ", " X"]),
        ("qwen2", ["In", " ", "1", "9", "8", "4", ",", " don", "'t", " ", " X"]),
    ],
)
def test_pretokens_by_hand(name, pretokens):  # SPEC A1
    assert pretokenize("In 1984, don't  X", name) == pretokens
