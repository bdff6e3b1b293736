"""The tokenizer: any text comes back, and special tokens are never forged."""

import copy
import itertools
import pickle
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.naive_bpe import join_pair, learn_merges_naively
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.tokenizers import bpe
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.bpe_training import (
    count_pretokens,
)
from transformer_lessons.tokenizers.pretokenizer import PATTERNS, pretokenize

BYTES = {byte: bytes([byte]) for byte in range(256)}
SPECIAL = ("<|end|>", "<|end|> of", "a<|", "\n\n", "é")
CORPUS = python_documentation()[:30_000]
TOKENIZER = BPETokenizer.train(CORPUS, vocab_size=500, special_tokens=SPECIAL)
TEXTS = st.lists(
    st.one_of(st.sampled_from([*SPECIAL, "<|", "|>", " of", "iterator", " ", "\n"]), st.text())
).map("".join)


def forbids(call):
    """What and where of the error that `call` must raise."""
    with pytest.raises(LessonsError) as caught:
        call()
    return caught.value


# Training


def test_the_vocabulary_is_bytes_then_merges_then_special_tokens():  # SPEC A1
    tokenizer = BPETokenizer.train("low lower lowest", 260, special_tokens=["<|end|>"])
    assert tokenizer.merges == [(b"o", b"w"), (b"l", b"ow"), (b"low", b"e")]
    new = {256: b"ow", 257: b"low", 258: b"lowe", 259: b"<|end|>"}
    assert tokenizer.vocab == BYTES | new
    assert tokenizer.special_tokens == {"<|end|>": 259}
    assert tokenizer.n_vocab == 260
    ids = [257, 32, 258, 114, 32, 258, 115, 116, 259]
    assert tokenizer.encode("low lower lowest<|end|>", allowed_special="all") == ids


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_any_number_of_workers_learns_what_the_naive_learner_does(pattern):  # SPEC A1, G3
    n_merges = 330 - 256 - len(SPECIAL)
    counts = count_pretokens([CORPUS], pattern, SPECIAL)
    for n_workers in (1, 2):
        made = BPETokenizer.train(CORPUS, 330, SPECIAL, pattern, n_workers)
        assert made.merges == learn_merges_naively(counts, n_merges)
        assert made.pattern == pattern


@given(text=TEXTS, cuts=st.lists(st.integers(0, 60)))
def test_a_text_in_pieces_teaches_the_same(text, cuts):  # SPEC A1, A10
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    whole = BPETokenizer.train(text, 280, SPECIAL)
    assert BPETokenizer.train(iter(pieces), 280, SPECIAL).merges == whole.merges


def test_merges_never_cross_a_special_token_and_are_not_learned_from_one():  # SPEC A1
    text = "xy<|ab|>zw" * 50 + "cd"
    tokenizer = BPETokenizer.train(text, 400, special_tokens=["<|ab|>"])
    assert tokenizer.merges == [
        (b"z", b"w"),  # 50, as is x y
        (b"x", b"y"),
        (b"zw", b"xy"),  # 49
        (b"zw", b"c"),  # 1, as is c d
        (b"zwc", b"d"),
    ]


@pytest.mark.parametrize(
    ("vocab_size", "special_tokens", "least"),
    [(255, [], 256), (0, [], 256), (257, ["<a>", "<b>"], 258)],
)
def test_a_vocabulary_that_is_too_small_is_refused(
    vocab_size, special_tokens, least
):  # SPEC A1, S7
    error = forbids(lambda: BPETokenizer.train("low", vocab_size, special_tokens))
    what = f"vocab_size = {vocab_size} can't hold 256 bytes and the special tokens"
    assert (error.what, error.where) == (what, "vocab_size")
    assert error.remedy == f"Use at least {least}."
    assert BPETokenizer.train("low", least, special_tokens).n_vocab == least


def test_a_text_with_few_pairs_gives_a_smaller_vocabulary():  # SPEC A1
    tokenizer = BPETokenizer.train("abc", 1_000, special_tokens=["<|end|>"])
    assert tokenizer.merges == [(b"b", b"c"), (b"a", b"bc")]
    assert (tokenizer.n_vocab, tokenizer.special_tokens["<|end|>"]) == (259, 258)
    assert BPETokenizer.train("", 1_000).vocab == BYTES


def test_special_tokens_may_be_named_twice_for_training():  # SPEC A1
    twice = BPETokenizer.train("low low", 259, special_tokens=["<a>", "<b>", "<a>"])
    assert twice.special_tokens == {"<a>": 257, "<b>": 258}
    assert twice.merges == [(b"o", b"w")]


def test_progress_and_an_unknown_pattern():  # SPEC A1
    said = []
    BPETokenizer.train("low lower lowest", 260, report=said.append)
    assert said == [1, 2, 3, 4]
    error = forbids(lambda: BPETokenizer.train("low", 300, pattern="gpt5"))
    assert str(error).startswith("unknown split pattern 'gpt5'")


# Encoding and decoding


@given(text=TEXTS)
@settings(max_examples=300)
def test_any_text_comes_back(text):  # SPEC A1, A10, F6
    for ids in (TOKENIZER.encode(text, allowed_special="all"), TOKENIZER.encode_ordinary(text)):
        assert TOKENIZER.decode(ids) == text
        assert TOKENIZER.decode_bytes(ids) == text.encode()
        assert all(0 <= id < TOKENIZER.n_vocab for id in ids)
        assert TOKENIZER.decode_bytes(ids) == b"".join(TOKENIZER.vocab[id] for id in ids)


@given(text=st.text())
def test_encoding_is_the_merges_applied_to_each_pretoken(text):  # SPEC A1, G3
    tokens = []
    for pretoken in pretokenize(text):
        word = [bytes([byte]) for byte in pretoken.encode()]
        for pair in TOKENIZER.merges:
            word = join_pair(word, pair)
        tokens += word
    special = set(TOKENIZER.special_tokens.values())
    ids = {token: id for id, token in TOKENIZER.vocab.items() if id not in special}
    assert TOKENIZER.encode_ordinary(text) == [ids[token] for token in tokens]


HOSTILE = {
    "letters": "a" * 1_000_000,
    "spaces": " " * 100_000,
    "spaces, then a letter": " " * 999_999 + "x",
    "emoji": "😀" * 100_000,
    "letters at random": "".join(
        string.ascii_letters[(i * i * 2_654_435_761 >> 7) % 52] for i in range(200_000)
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_million_letters_without_a_place_to_cut(name):  # SPEC A1; TARGETS, hostile strings
    # Tokens of 2, 4, 8 spaces and letters a, and of one and two emoji.
    pairs = [(token * n, token * n) for token in (b" ", b"a") for n in (1, 2, 4)]
    emoji = "😀".encode()
    pairs += [(emoji[:1], emoji[1:2]), (emoji[:2], emoji[2:3]), (emoji[:3], emoji[3:])]
    pairs.append((emoji, emoji))
    vocab = BYTES | {256 + i: left + right for i, (left, right) in enumerate(pairs)}
    tokenizer = BPETokenizer(vocab, pairs)
    text = HOSTILE[name]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    n_tokens = {
        "letters": 125_000,
        "spaces": 12_500,
        "spaces, then a letter": 124_999 + 2 + 2,  # 999,998 spaces, then " " and "x"
        "emoji": 50_000,
    }
    assert len(ids) == n_tokens.get(name, len(ids))


def test_half_a_surrogate_pair_is_refused():  # SPEC S9
    calls = [
        lambda: TOKENIZER.encode("low\udcff"),
        lambda: TOKENIZER.encode_ordinary("low\udcff"),
        lambda: list(TOKENIZER.encode_iterable(["low\udcff"])),
        lambda: BPETokenizer.train("low\udcff", 300),
    ]
    for call in calls:
        assert forbids(call).what == r"'\udcff' is not a character"


@pytest.mark.parametrize("text", ["hello world \udcff", "hello<|end|>\udcff"])
def test_half_a_surrogate_pair_is_named_with_its_place_in_the_text(text):  # SPEC S9
    assert forbids(lambda: TOKENIZER.encode(text, "all")).where == "position 12"
    assert forbids(lambda: TOKENIZER.encode_ordinary(text)).where == "position 12"


@pytest.mark.parametrize("ids", [[97, -1], [97, 500], [97, 10**12]])
def test_an_unknown_id_is_named(ids):  # SPEC S9
    for method in (TOKENIZER.decode, TOKENIZER.decode_bytes):
        error = forbids(lambda method=method: method(iter(ids)))
        assert str(error) == (
            f"token {ids[1]} is not in the vocabulary (position 1). Is it another tokenizer's?"
        )


def test_bytes_that_are_not_utf8_are_marked():  # SPEC F6
    ids = list(b"a\xff\xc3b")
    assert TOKENIZER.decode_bytes(ids) == b"a\xff\xc3b"
    assert TOKENIZER.decode(ids) == "a\ufffd\ufffdb"
    assert TOKENIZER.decode([]) == ""


# Special tokens


@given(text=TEXTS)
def test_special_tokens_are_found_leftmost_and_longest(text):  # SPEC A1
    expected, place = [], 0
    while place < len(text):
        here = [token for token in SPECIAL if text.startswith(token, place)]
        expected += [max(here, key=len)] if here else []
        place += len(max(here, key=len)) if here else 1
    named = {id: token for token, id in TOKENIZER.special_tokens.items()}
    ids = TOKENIZER.encode(text, allowed_special="all")
    assert [named[id] for id in ids if id in named] == expected


def test_a_special_token_is_refused_unless_allowed():  # SPEC A1
    text = "x<|end|>y<|end|> of"
    error = forbids(lambda: TOKENIZER.encode(text))
    assert error.what == "the text contains the special token '<|end|>'"
    assert error.where == "character 1"
    assert error.remedy == "Pass allowed_special=['<|end|>'], or use encode_ordinary."
    error = forbids(lambda: TOKENIZER.encode(text, allowed_special=["<|end|>"]))
    assert error.what == "the text contains the special token '<|end|> of'"
    assert error.where == "character 9"
    special = TOKENIZER.special_tokens
    expected = [ord("x"), special["<|end|>"], ord("y"), special["<|end|> of"]]
    allowed = ["<|end|>", "<|end|> of"]
    assert TOKENIZER.encode(text, allowed_special=allowed) == expected
    assert TOKENIZER.encode(text, allowed_special=iter(allowed)) == expected
    assert TOKENIZER.encode(text, allowed_special="all") == expected
    assert TOKENIZER.encode("x<|end|>y", allowed_special="<|end|>") == expected[:3]


def test_special_tokens_are_plain_text_for_encode_ordinary():  # SPEC A1
    text = "x<|end|> of"
    ids = TOKENIZER.encode_ordinary(text)
    assert not set(ids) & set(TOKENIZER.special_tokens.values())
    assert TOKENIZER.decode(ids) == text
    plain = BPETokenizer.train(CORPUS, 500)
    assert plain.encode(text) == plain.encode_ordinary(text)


@given(text=TEXTS)
def test_no_text_gives_a_special_id_unasked(text):  # SPEC A1
    special = set(TOKENIZER.special_tokens.values())
    assert not special & set(TOKENIZER.encode_ordinary(text))
    if any(token in text for token in SPECIAL):
        assert forbids(lambda: TOKENIZER.encode(text)).where.startswith("character ")
        assert forbids(lambda: list(TOKENIZER.encode_iterable(text)))
    else:
        assert TOKENIZER.encode(text) == TOKENIZER.encode_ordinary(text)


@pytest.mark.parametrize("special_tokens", [["<|end|>"], []])
def test_an_unknown_allowed_special_is_refused(special_tokens):  # SPEC A1
    tokenizer = BPETokenizer(BYTES, [], special_tokens)
    for method in (tokenizer.encode, lambda *a, **k: list(tokenizer.encode_iterable(*a, **k))):
        error = forbids(lambda method=method: method("x", allowed_special=["<|END|>"]))
        assert str(error) == "'<|END|>' is not a special token (allowed_special)"


# Streams


@given(text=TEXTS, cuts=st.lists(st.integers(0, 60)), held=st.integers(1, 10))
@settings(max_examples=200)
def test_a_stream_gives_the_ids_of_the_whole(text, cuts, held):  # SPEC A1, A10
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    lines = [text[a:b] for a, b in itertools.pairwise(places)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "HELD", held)
        streamed = list(TOKENIZER.encode_iterable(iter(lines), allowed_special="all"))
    assert streamed == TOKENIZER.encode(text, allowed_special="all")


def test_a_stream_names_the_place_of_a_special_token(monkeypatch):  # SPEC A1
    monkeypatch.setattr(bpe, "HELD", 4)
    lines = ["x<|end|>é", "low ", "low<|e", "nd|> of"]
    ids = TOKENIZER.encode_iterable(lines, allowed_special=["<|end|>", "é"])
    error = forbids(lambda: list(ids))
    assert error.what == "the text contains the special token '<|end|> of'"
    assert error.where == "character 16"
    assert "".join(lines)[16:] == "<|end|> of"


def test_a_stream_is_read_no_further_than_needed():  # SPEC A1
    limit = bpe.HELD + 2_000

    def lines():
        for number in itertools.count():
            assert number * 10 < limit, "read too far ahead"
            yield "low lower\n"

    ids = TOKENIZER.encode_iterable(lines())
    first = list(itertools.islice(ids, 50))
    assert first == TOKENIZER.encode("low lower\n" * 40)[:50]
    nothing = BPETokenizer(BYTES, []).encode_iterable(())
    assert list(nothing) == []


# What a tokenizer is made of

AB, BC = (b"a", b"b"), (b"b", b"c")


def without(byte):
    """All bytes but one."""
    return {id: token for id, token in BYTES.items() if id != byte}


@pytest.mark.parametrize(
    ("vocab", "merges", "special_tokens", "what", "where"),
    [
        ({}, [], [], "b'\\x00' must be one token, as a byte", "vocab"),
        (without(200), [], [], "b'\\xc8' must be one token, as a byte", "vocab"),
        (BYTES | {256: b"a"}, [], [], "b'a' must be one token", "vocab"),
        (BYTES | {-1: b"ab"}, [AB], [], "an id is not 0, 1, 2, …", "vocab"),
        (BYTES | {256.0: b"ab"}, [AB], [], "an id is not 0, 1, 2, …", "vocab"),
        (BYTES | {"a": b"ab"}, [AB], ["<a>"], "an id is not 0, 1, 2, …", "vocab"),
        (BYTES, [AB], [], "b'ab' must be one token", "vocab"),
        (BYTES | {256: b"ab"}, [], [], "made by one merge, or special", "vocab"),
        (BYTES | {256: b""}, [], [], "b'' must be one token", "vocab"),
        (BYTES | {256: b"ab"}, [AB], ["ab"], "b'ab' must be one token", "vocab"),
        (
            BYTES | {256: b"abc", 257: b"ab"},
            [(b"ab", b"c"), AB],
            [],
            "b'abc' is not made of two tokens of lower rank, but of 3",
            "rank 0",
        ),
        (BYTES | {256: b"ab"}, [AB, AB], [], "b'ab' must be one token", "vocab"),
        (
            BYTES | {256: b"ab", 257: b"bc", 258: b"abc"},
            [AB, BC, (b"ab", b"c"), (b"a", b"bc")],
            [],
            "b'abc' must be one token",
            "vocab",
        ),
        # Of abc, ab is joined first; so a and bc are never neighbours.
        (
            BYTES | {256: b"ab", 257: b"bc", 258: b"abc"},
            [AB, BC, (b"a", b"bc")],
            [],
            "(b'a', b'bc') is a merge whose two parts never meet after the merges before",
            "merges",
        ),
        (BYTES | {256: b"ab"}, [(b"a", b"b", b"c")], [], "is not two tokens", "merges[0]"),
        (BYTES | {256: b"ab"}, [("a", "b")], [], "is not two tokens", "merges[0]"),
        (BYTES | {256: b"ab"}, [(b"ab", b"")], [], "is not two tokens", "merges[0]"),
        (BYTES, [], ["x"], "'x' is not a string of two bytes or more", "special_tokens"),
        (BYTES, [], ["<a>", "<a>"], "'<a>' is not a string of two", "special_tokens"),
        (BYTES, [], [""], "'' is not a string of two bytes or more", "special_tokens"),
        (BYTES, [], ["<\udcff>"], "is not a string of two bytes", "special_tokens"),
        (BYTES, [], [b"<a>"], "b'<a>' is not a string of two bytes", "special_tokens"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(vocab, merges, special_tokens, what, where):
    # SPEC A1, S9
    error = forbids(lambda: BPETokenizer(vocab, merges, special_tokens))
    assert what in error.what
    assert error.where == where


def test_special_tokens_get_the_next_ids_or_keep_theirs():  # SPEC A1
    vocab = BYTES | {300: b"ab", 400: b"<a>"}
    tokenizer = BPETokenizer(vocab, [(b"a", b"b")], ["<a>", "<b>", "<a><b>"])
    assert tokenizer.special_tokens == {"<a>": 400, "<b>": 401, "<a><b>": 402}
    assert tokenizer.n_vocab == 403
    assert tokenizer.encode("ab<a><b><b>", allowed_special="all") == [300, 402, 401]
    assert vocab == BYTES | {300: b"ab", 400: b"<a>"}  # not written to


def test_ids_in_any_order():  # SPEC A1
    vocab = {1_000 - byte: bytes([byte]) for byte in range(256)} | {0: b"ab", 5: b"abab"}
    tokenizer = BPETokenizer(vocab, [(b"a", b"b"), (b"ab", b"ab")])
    assert tokenizer.encode("abababz") == [5, 0, 1_000 - ord("z")]
    assert tokenizer.decode([5, 0, 1_000 - ord("z")]) == "abababz"
    assert tokenizer.n_vocab == 1_001


def test_an_unknown_pattern_is_refused():  # SPEC S9
    assert forbids(lambda: BPETokenizer(BYTES, [], [], "(a+)+b")).where == "pattern"


def test_the_pattern_decides_the_pretokens():  # SPEC A1
    merges = [(b"1", b"2"), (b"12", b"3"), (b"123", b"4")]
    vocab = BYTES | {256 + i: left + right for i, (left, right) in enumerate(merges)}
    assert BPETokenizer(vocab, merges, pattern="gpt2").encode("1234") == [258]
    assert BPETokenizer(vocab, merges, pattern="gpt4").encode("1234") == [257, ord("4")]


def test_each_pretoken_is_merged_once(monkeypatch):  # SPEC A1
    merged = []
    plain = bpe.apply_merges
    monkeypatch.setattr(
        bpe, "apply_merges", lambda word, ranks: merged.append(word) or plain(word, ranks)
    )
    tokenizer = BPETokenizer(BYTES, [])
    assert tokenizer.decode(tokenizer.encode(" low" * 1_000)) == " low" * 1_000
    assert merged == [b" low"]


@pytest.mark.parametrize("method", ["encode", "encode_iterable"])
def test_long_pretokens_are_not_remembered_and_the_others_are(monkeypatch, method):  # SPEC A1
    merged = []
    plain = bpe.apply_merges
    tokenizer, long = BPETokenizer(BYTES, []), "-" * 5_000
    monkeypatch.setattr(
        bpe, "apply_merges", lambda word, ranks: merged.append(word) or plain(word, ranks)
    )
    text = (" low" * 10 + long) * 2
    ids = list(getattr(tokenizer, method)(text if method == "encode" else [text]))
    assert ids == list(text.encode())
    assert merged == [b" low", long.encode(), long.encode()]


def test_two_tokenizers_share_nothing():  # SPEC A1
    first = BPETokenizer.train("low low", 257)
    second = BPETokenizer.train("abc abc", 257)
    assert first.encode("low") == [ord("l"), 256]
    assert second.encode("low") == [ord("l"), ord("o"), ord("w")]
    assert first.encode("low") == [ord("l"), 256]


@pytest.mark.parametrize(
    "mark", ["<|endoftext|>", "<s>", "</s>", "<pad>", "[MASK]", "<|im_start|>"]
)
@pytest.mark.parametrize("merges", [None, []])
def test_a_special_token_in_the_vocabulary_must_be_named(mark, merges):  # SPEC A1
    vocab = BYTES | {256: mark.encode()}
    with pytest.raises(LessonsError, match=r"is in the vocabulary, but not among the special"):
        BPETokenizer(vocab, merges)
    assert BPETokenizer(vocab, merges, [mark]).encode(mark, "all") == [256]
    parts = BYTES | {256: b"<s", 257: b"<s>"}  # even where merges could have made it
    with pytest.raises(LessonsError, match=r"^b'<s>' is in the vocabulary"):
        BPETokenizer(parts, None)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("mark", ["<|endoftext|>", "<s>", "</s>", "[PAD]"])
def test_no_merge_makes_such_a_token(pattern, mark):
    assert len(pretokenize(mark, pattern)) > 1


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_gives_the_same_ids(name):
    again = COPIES[name](TOKENIZER)
    assert again.encode(CORPUS[:999], "all") == TOKENIZER.encode(CORPUS[:999], "all")


def test_a_pickled_tokenizer_gives_the_same_ids():  # worker processes are handed one
    again = pickle.loads(pickle.dumps(TOKENIZER))
    assert again.vocab == TOKENIZER.vocab
    assert again.encode(CORPUS[:999], "all") == TOKENIZER.encode(CORPUS[:999], "all")
