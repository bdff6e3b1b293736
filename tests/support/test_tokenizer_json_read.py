"""tokenizer.json into our tokenizer: the ids that Hugging Face's own library gives."""

import json
import pickle
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.support.tokenizer_json import (
    HUGGINGFACE_PATTERNS,
    pattern_of,
)
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.weights.pretrained import _folder_tokenizer

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"]
TEXT = python_documentation()[:60_000] + " don't I'LL 12345 日本語 😀 é ſ \n\n \t\r\n" * 60


def split_by(pattern):
    split = pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, byte_level])


BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
WAYS = {
    "gpt2": BYTE_LEVEL,
    "smollm2": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTE_LEVEL]),
    "llama3": split_by(HUGGINGFACE_PATTERNS["llama3"]),
    "qwen2": split_by(HUGGINGFACE_PATTERNS["qwen2"]),
    "gpt4": split_by(HUGGINGFACE_PATTERNS["gpt4"]),
}


@lru_cache
def trained(name):
    """A tokenizer that `tokenizers` trains, and its file."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = WAYS[name], decoders.ByteLevel()
    if name == "qwen2":
        made.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=SPECIAL[:3], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([TEXT], trainer)
    made.add_tokens([tokenizers.AddedToken("<think>", special=False, normalized=False)])
    return made, json.loads(made.to_str())


def read(document, folder):
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return BPETokenizer.from_huggingface(folder / "tokenizer.json")


@lru_cache
def both(name):
    """Theirs and ours; ours is read from a file of theirs."""
    theirs, document = trained(name)
    with tempfile.TemporaryDirectory() as folder:
        return theirs, read(document, Path(folder))


TELLING = "a'sSlLvVrRedtmſ1٣²! \t\n\r\x0b\x1c\u00a0\u2003\u0301é日😀_"
PIECES = st.one_of(
    st.sampled_from([*SPECIAL, *TELLING, "don't", "I'LL", "12345", "the ", " \n", "<|im_", "|>"]),
    st.characters(exclude_categories=["Cs", "Cn"]),
)


@pytest.mark.parametrize("name", WAYS)
@given(text=st.lists(PIECES, max_size=12).map("".join))
@settings(max_examples=100)
def test_ids_are_those_of_tokenizers(name, text):  # SPEC A1, G5
    theirs, ours = both(name)
    ids = ours.encode(text, allowed_special="all")
    assert ids == theirs.encode(text, add_special_tokens=False).ids
    if name != "qwen2":  # the file asks for NFC
        assert ours.decode(ids) == text


@pytest.mark.parametrize("name", WAYS)
def test_ids_of_a_long_text_are_those_of_tokenizers(name):  # SPEC A1, G5
    theirs, ours = both(name)
    assert ours.pattern == name
    text = python_documentation()[60_000:160_000]
    assert ours.encode(text) == theirs.encode(text).ids
    assert ours.special_tokens == {text: theirs.token_to_id(text) for text in SPECIAL}
    assert ours.n_vocab == theirs.get_vocab_size()


def test_accents_are_joined_where_the_file_asks_for_it(tmp_path):  # SPEC A1
    """ "e" and U+0301, an accent of its own, are "é" to Qwen, and two characters to Llama 3."""
    (theirs, qwen2), (_, llama3) = both("qwen2"), both("llama3")
    text = "cafe\u0301 <|im_end|>\u0301"
    assert qwen2.decode(qwen2.encode(text, "all")) == "café <|im_end|>\u0301"
    assert llama3.decode(llama3.encode(text, "all")) == text
    qwen2.save(tmp_path / "own.json")
    qwen2.to_huggingface(tmp_path / "tokenizer.json")
    for again in (
        BPETokenizer.load(tmp_path / "own.json"),
        BPETokenizer.from_huggingface(tmp_path / "tokenizer.json"),
        pickle.loads(pickle.dumps(qwen2)),
    ):
        assert again.encode(text, "all") == theirs.encode(text).ids
    with pytest.raises(LessonsError, match="tiktoken does not bring text into the form NFC"):
        qwen2.to_tiktoken()
    with pytest.raises(LessonsError, match="a stream can't be normalized"):
        next(qwen2.encode_iterable(["cafe", "\u0301"]))
    with pytest.raises(LessonsError, match=r"'NFKC' is not NFC \(normal_form\)"):
        BPETokenizer(qwen2.vocab, qwen2.merges, list(qwen2.special_tokens), normal_form="NFKC")


def test_the_ways_of_cutting_differ():
    """So one taken for another would be seen."""
    text = "x = 12345 \n \n it'LL \n "
    ids = {name: tuple(len(chunk) for chunk in cut(name, text)) for name in WAYS}
    assert len(set(ids.values())) == len(WAYS)


def cut(name, text):
    return [chunk for chunk, _ in WAYS[name].pre_tokenize_str(text)]


def test_our_own_file_comes_back(tmp_path):  # SPEC A1
    tokenizer = BPETokenizer.train("low lower lowest" * 9, 262, ["<|end|>"], pattern="gpt4")
    tokenizer.to_huggingface(tmp_path / "tokenizer.json")
    again = BPETokenizer.from_huggingface(tmp_path / "tokenizer.json")
    assert (again.vocab, again.merges) == (tokenizer.vocab, tokenizer.merges)
    assert (again.special_tokens, again.pattern) == (tokenizer.special_tokens, "gpt4")


@pytest.mark.parametrize("name", HUGGINGFACE_PATTERNS)
def test_every_pattern_that_is_written_is_read(name, tmp_path):  # SPEC A1
    BPETokenizer({b: bytes([b]) for b in range(256)}, [], pattern=name).to_huggingface(
        tmp_path / "tokenizer.json"
    )
    assert BPETokenizer.from_huggingface(tmp_path / "tokenizer.json").pattern == name


def test_merges_spelled_the_older_way(tmp_path):  # SPEC A1
    _, document = trained("gpt2")
    assert isinstance(document["model"]["merges"][0], list)
    merges = [" ".join(pair) for pair in document["model"]["merges"]]
    ours = read(document | {"model": document["model"] | {"merges": merges}}, tmp_path)
    assert ours.merges == both("gpt2")[1].merges


def all_pairs(document):
    """As Llama 3's file: every pair of tokens that joins to a token, in the order of the tokens."""
    vocab = document["model"]["vocab"]
    made = ["".join(pair) for pair in document["model"]["merges"]]
    pairs = [(text[:i], text[i:]) for text in made for i in range(1, len(text))]
    merges = [list(pair) for pair in pairs if set(pair) <= vocab.keys() - set(SPECIAL)]
    return document | {"model": document["model"] | {"merges": merges, "ignore_merges": True}}


def test_merges_listed_like_llama_3s(tmp_path):  # SPEC A1, G5
    document = all_pairs(trained("llama3")[1])
    assert len(document["model"]["merges"]) > len(trained("llama3")[1]["model"]["merges"])
    ours = read(document, tmp_path)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(document))
    text = python_documentation()[60_000:160_000]
    assert ours.encode(text) == theirs.encode(text).ids
    ambiguous = [len(text) > 2 for text in map("".join, document["model"]["merges"])]
    del document["model"]["merges"][ambiguous.index(True)]  # one of several for the same token
    with pytest.raises(LessonsError, match="several merges, but not every merge"):
        read(document, tmp_path)


def test_what_lies_around_a_text_is_left_to_the_caller(tmp_path):  # SPEC A1
    theirs, document = trained("llama3")
    theirs = tokenizers.Tokenizer.from_str(json.dumps(document))
    theirs.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    ours = read(json.loads(theirs.to_str()), tmp_path)
    assert theirs.encode("low").ids == [0, *ours.encode("low")]
    assert theirs.encode("low", add_special_tokens=False).ids == ours.encode("low")


def test_a_vocabulary_that_lacks_bytes_is_read(tmp_path):  # SPEC A1, S9
    """As SmolLM2's; `tokenizers` leaves such a byte out of the ids, without a word."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = WAYS["smollm2"], decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=SPECIAL[:1], show_progress=False)
    made.train_from_iterator(["low lower lowest 123"], trainer)
    ours = read(json.loads(made.to_str()), tmp_path)
    assert ours.encode("lower 321") == made.encode("lower 321").ids
    assert made.encode("low\x04").ids == made.encode("low").ids
    with pytest.raises(LessonsError, match="lacks the byte 0x04"):
        ours.encode("low\x04")


def changed(path, value):
    """A function that sets a value deep inside a document."""

    def change(document):
        inside = document
        for key in path[:-1]:
            inside = inside[key]
        inside[path[-1]] = value

    return change


TOKEN = {"id": 5, "content": "<x>", "special": True}
WRONG = {
    "unigram": (changed(["model", "type"], "Unigram"), "type = 'Unigram' is not known"),
    "no model": (changed(["model"], None), "model is missing, not of the type dict"),
    "dropout": (changed(["model", "dropout"], 0.1), "dropout = 0.1 is not known"),
    "suffix": (changed(["model", "end_of_word_suffix"], "</w>"), "'</w>' is not known"),
    "fallback": (changed(["model", "byte_fallback"], True), "byte_fallback = True"),
    "normalizer": (changed(["normalizer"], {"type": "Lowercase"}), "other than NFC"),
    "decoder": (changed(["decoder"], {"type": "Metaspace"}), "it is not ByteLevel"),
    "prefix space": (
        changed(["pre_tokenizer", "add_prefix_space"], True),
        "an unknown way of cutting text",
    ),
    "whitespace": (changed(["pre_tokenizer"], {"type": "Whitespace"}), "an unknown way"),
    "no pre-tokenizer": (changed(["pre_tokenizer"], None), "an unknown way"),
    "lstrip": (changed(["added_tokens", 1, "lstrip"], True), "lstrip of '<|im_start|>'"),
    "single word": (changed(["added_tokens", 1, "single_word"], True), "single_word of"),
    "added no list": (
        changed(["added_tokens"], 7),
        "added_tokens is 7, not of the type list[dict]",
    ),
    "id": (changed(["added_tokens", 1, "id"], -1), "'<|im_start|>' has two ids"),
    "twice": (changed(["added_tokens", 1, "id"], 0), "the token, or its id, is there twice"),
    "taken": (changed(["added_tokens", 1, "id"], 300), "'<|im_start|>' has two ids"),
    "vocab": (changed(["model", "vocab"], [1]), "vocab is [1], not of the type dict[str, int]"),
    "vocab id": (changed(["model", "vocab", "the"], "7"), "not of the type dict[str, int]"),
    "vocab twice": (changed(["model", "vocab", "the"], 300), "the id 300 of "),
    "no byte": (changed(["model", "vocab", "日"], 5000), "a character that stands for no byte"),
    "long": (changed(["model", "vocab", "a" * 513], 5000), "has over 512 bytes"),
    "idle": (changed(["model", "vocab", "qqqq"], 5000), "must be one token, as a byte, made by"),
    "merges": (changed(["model", "merges"], {}), "merges is {}, not of the type list"),
    "merge": (changed(["model", "merges", 3], ["a"]), "is not two tokens and a space"),
    "merge of three": (changed(["model", "merges", 3], "a b c"), "is not two tokens and a space"),
    "merge unknown": (changed(["model", "merges", 3], "q q"), "is not in the vocabulary"),
    "half a character": (
        changed(["added_tokens", 1, "content"], "<\ud800>"),
        "is there twice",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_an_unknown_kind_is_named(change, message, tmp_path):  # SPEC A1, S9
    document = json.loads(json.dumps(trained("gpt2")[1]))
    read(document, tmp_path)
    change(document)
    with pytest.raises(LessonsError) as caught:
        read(document, tmp_path)
    assert message in caught.value.what
    assert caught.value.where.startswith(str(tmp_path / "tokenizer.json"))


def test_a_pattern_is_compared_and_never_run():  # SPEC S2, S9
    evil = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}
    bytes_after = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    steps = {"type": "Sequence", "pretokenizers": [evil | {"invert": False}, bytes_after]}
    with pytest.raises(LessonsError, match="an unknown way of cutting text"):
        pattern_of(steps, "here")
    known = evil | {"pattern": {"Regex": HUGGINGFACE_PATTERNS["qwen2"]}, "invert": False}
    assert pattern_of(steps | {"pretokenizers": [known, bytes_after]}, "here") == "qwen2"
    for wrong in ({"behavior": "Removed"}, {"invert": True}, {"pattern": {"String": "a"}}):
        with pytest.raises(LessonsError, match="an unknown way of cutting text"):
            pattern_of(steps | {"pretokenizers": [known | wrong, bytes_after]}, "here")


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.json"])
def test_a_folder_with_another_kind_of_file_says_what_to_do(name, tmp_path):  # SPEC S9
    assert _folder_tokenizer(tmp_path) is None
    (tmp_path / name).write_text("{}")
    with pytest.raises(LessonsError, match=f"the tokenizer is in {name}.*AutoTokenizer"):
        _folder_tokenizer(tmp_path)
