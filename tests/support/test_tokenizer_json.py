"""tokenizer.json: Hugging Face's library opens it and gives our ids, or there is no file."""

import itertools
import json
import random
import unicodedata

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.support.tokenizer_json import HUGGINGFACE_PATTERNS, byte_characters
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.pretokenizer import PATTERNS, pretokenize

BYTES = {byte: bytes([byte]) for byte in range(256)}
SPECIAL = ["<|end|>", "<|end|> of", "<|begin of text|>", "日本", "\n\n\n"]
BOTH = ["gpt2", "gpt4"]
TELLING = "a'sSlLvVrRedtmſ1٣²! \t\n\r\x0b\x1c\u00a0\u2003\u0301é日😀_"


def opened(tokenizer, folder):
    """The tokenizer as `tokenizers` reads it."""
    tokenizer.to_huggingface(folder / "tokenizer.json")
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def trained(pattern):
    text = (
        python_documentation()[:60_000] + "\n \n  \n \t\r\n " * 90 + "日本語 😀 é ſ don't I'LL" * 50
    )
    return BPETokenizer.train(text, 900, SPECIAL, pattern)


def random_texts(n):
    dice = random.Random(0)
    documentation = python_documentation()
    known = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    parts = [*SPECIAL, "<|", "|>", " of", "I'LL", "don't", "é", "e\u0301", "日本語", "12345"]
    blanks = [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\n \n", "\n  "]
    texts: dict[str, None] = {}  # each once, in order
    while len(texts) < n:
        start = dice.randrange(len(documentation))
        choices = [
            documentation[start : start + dice.randint(0, 20)],
            "".join(dice.choices(known, k=3)),
            "".join(dice.choices(parts, k=3)),
            "".join(dice.choices(TELLING, k=5)),
            dice.choice(blanks),
            dice.choice(blanks),
        ]
        texts["".join(dice.sample(choices, k=dice.randint(0, len(choices))))] = None
    return list(texts)


@pytest.mark.parametrize("pattern", BOTH)
def test_hugging_face_gives_our_ids_for_300_texts(pattern, tmp_path):  # SPEC A1, A10
    tokenizer = trained(pattern)
    theirs, texts = opened(tokenizer, tmp_path), random_texts(300)
    assert len(set(texts)) == 300
    different = []
    for text in texts:
        ids = tokenizer.encode(text, allowed_special="all")
        if theirs.encode(text).ids != ids or theirs.decode(ids, skip_special_tokens=False) != text:
            different.append(text)
    assert different == []


@pytest.mark.parametrize("pattern", BOTH)
@pytest.mark.parametrize("letters", ["a \n\r!1", "\u00a0 \t\na", "'sSlLſ ", "é\u0301 1①'"])
def test_all_short_texts_are_cut_alike(pattern, letters):  # SPEC A1
    split = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex(HUGGINGFACE_PATTERNS[pattern]), "isolated"
    )
    for text in map("".join, itertools.product(letters, repeat=5)):
        theirs = [chunk for chunk, _ in split.pre_tokenize_str(text)]
        assert theirs == pretokenize(text, pattern)


@pytest.mark.parametrize("pattern", BOTH)
@given(
    text=st.text(
        st.one_of(st.sampled_from(TELLING), st.characters(exclude_categories=["Cs", "Cn"]))
    )
)
@settings(max_examples=300)
def test_any_text_is_cut_alike(pattern, text):  # SPEC A1
    split = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex(HUGGINGFACE_PATTERNS[pattern]), "isolated"
    )
    theirs = [chunk for chunk, _ in split.pre_tokenize_str(text)] if text else []
    assert theirs == pretokenize(text, pattern)


def test_there_is_a_pattern_for_each_of_ours():
    assert HUGGINGFACE_PATTERNS.keys() == PATTERNS.keys()


@pytest.mark.parametrize("pattern", BOTH)
def test_the_vocabulary_is_the_same(pattern, tmp_path):  # SPEC A1
    tokenizer = trained(pattern)
    theirs = opened(tokenizer, tmp_path)
    assert theirs.get_vocab_size() == tokenizer.n_vocab == 900
    for text, id in tokenizer.special_tokens.items():
        assert theirs.token_to_id(text) == id
        assert theirs.encode(text).ids == [id]
        assert theirs.decode([id], skip_special_tokens=False) == text
        assert theirs.decode([ord("a"), id, ord("b")]) == "ab"
    for id in range(tokenizer.n_vocab):
        assert theirs.decode([id], skip_special_tokens=False) == tokenizer.decode([id])


def test_bytes_are_spelled_as_by_hugging_face():  # SPEC A1
    characters = byte_characters()
    assert sorted(characters) == sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for character in [*map(chr, range(256)), "日", "😀"]:
        spelled = "".join(characters[byte] for byte in character.encode())
        assert level.pre_tokenize_str(character)[0][0] == spelled


def test_ids_in_any_order_stay(tmp_path):  # SPEC A1
    vocab = {300 - byte: token for byte, token in BYTES.items()} | {0: b"ab", 5: b"abab"}
    tokenizer = BPETokenizer(vocab, [(b"a", b"b"), (b"ab", b"ab")])
    theirs = opened(tokenizer, tmp_path)
    for text in ("ababab", "xababy", "é b"):
        assert theirs.encode(text).ids == tokenizer.encode(text)
        assert theirs.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("id", [256, 300, 1_000])
def test_special_tokens_keep_their_ids(id, tmp_path):  # SPEC A1
    vocab = BYTES | {257: b"ab", id: b"<a>"}
    tokenizer = BPETokenizer(vocab, [(b"a", b"b")], ["<a>"])
    text = "ab<a>b"
    assert tokenizer.encode(text, "all") == [257, id, ord("b")]
    assert opened(tokenizer, tmp_path).encode(text).ids == [257, id, ord("b")]


UNREACHED = [(b"b", b"c"), (b"a", b"b"), (b"c", b"d"), (b"ab", b"cd")]  # abcd: bc comes first
OTHER_HALVES = [(b"a", b"b"), (b"b", b"c"), (b"a", b"bc")]  # abc is reached as ab + c


@pytest.mark.parametrize("merges", [UNREACHED, OTHER_HALVES])
def test_merges_that_hugging_face_would_apply_otherwise_are_refused(merges):  # SPEC A1
    vocab = BYTES | {256 + i: left + right for i, (left, right) in enumerate(merges)}
    with pytest.raises(LessonsError, match=r"not made of two tokens|never meet after the merges"):
        BPETokenizer(vocab, merges)


def test_a_special_token_that_looks_like_the_spelling_of_another_is_refused(tmp_path):  # SPEC A1
    tokenizer = BPETokenizer(BYTES | {256: b" t"}, [(b" ", b"t")], ["Ġt"])
    with pytest.raises(LessonsError) as caught:
        tokenizer.to_huggingface(tmp_path / "t.json")
    assert caught.value.what == "the special token 'Ġt' is also how the token 256 is spelled"
    assert not (tmp_path / "t.json").exists()


def test_the_file_by_hand(tmp_path):  # SPEC A1
    merges = [(b" ", b"l"), (b" l", b"o")]
    vocab = BYTES | {256: b" l", 257: b" lo", 258: b"<|end|>"}
    BPETokenizer(vocab, merges, ["<|end|>"]).to_huggingface(tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert document["model"]["merges"] == [["Ġ", "l"], ["Ġl", "o"]]
    assert document["model"]["vocab"]["Ġlo"] == 257
    assert document["model"]["vocab"]["Ċ"] == 10
    (added,) = document["added_tokens"]
    assert (added["id"], added["content"], added["special"]) == (258, "<|end|>", True)
    assert document["normalizer"] is None


def test_a_place_that_can_not_be_written_is_named(tmp_path):  # SPEC S9
    with pytest.raises(LessonsError, match="can't write it: No such file or directory"):
        BPETokenizer(BYTES, []).to_huggingface(tmp_path / "absent" / "tokenizer.json")
