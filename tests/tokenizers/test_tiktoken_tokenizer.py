"""To and from tiktoken: the same ids in both directions, on everything."""

import json
import os
import random
import unicodedata
from functools import partial

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.support.tiktoken_files import SPECIAL_TOKENS, published_encoding
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.bpe_encoding import merges_of_ranks
from transformer_lessons.tokenizers.pretokenizer import PATTERNS
from transformer_lessons.tokenizers.tiktoken_tokenizer import TiktokenTokenizer

BYTES = {byte: bytes([byte]) for byte in range(256)}
BYTE_RANKS = {token: byte for byte, token in BYTES.items()}
# Characters that this Python knows: newer letters are in the tables of `regex` before tiktoken's.
ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"])
CL100K_SPECIAL = SPECIAL_TOKENS["cl100k_base"]
N_TEXTS = 10_000 if os.environ.get("FAULTS") == "full" else 300
cl100k_base = partial(published_encoding, "cl100k_base", PATTERNS)
gpt2 = partial(published_encoding, "gpt2", PATTERNS)


def published_by_tiktoken(make):
    """An encoding. Where it can't be had the tests are skipped, but where CI is set they fail."""
    try:
        return make()
    except LessonsError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no published encoding: {error}")


@pytest.fixture(scope="module")
def theirs():
    return published_by_tiktoken(cl100k_base)


@pytest.fixture(scope="module")
def ours(theirs):
    return BPETokenizer.from_tiktoken(theirs)


@pytest.fixture(scope="module", params=[cl100k_base, gpt2], ids=["cl100k_base", "gpt2"])
def both(request):
    """Our tokenizer with the ranks of a published one, and the published one."""
    published = published_by_tiktoken(request.param)
    return BPETokenizer.from_tiktoken(published), published


def random_texts(n, seed):
    """Different texts of every kind: words, white space, numbers, endings, any characters."""
    dice = random.Random(seed)
    documentation = python_documentation()
    known = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    blanks = [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\x0b", "\n\n  "]
    bits = ["'s", "'LL", "'ſ", "don't", "_", "==", "1234", "٣٤", "é", "e\u0301", "日本語", "😀"]

    def part():
        kind = dice.random()
        if kind < 0.35:
            start = dice.randrange(len(documentation))
            return documentation[start : start + dice.randint(1, 12)]
        if kind < 0.55:
            return dice.choice(blanks) * dice.randint(1, 3)
        if kind < 0.8:
            return dice.choice(bits)
        return "".join(dice.choices(known, k=dice.randint(1, 4)))

    texts: dict[str, None] = {}  # each once, in order
    while len(texts) < n:
        texts["".join(part() for _ in range(dice.randint(0, 9)))] = None
    return list(texts)


# Import: cl100k_base and gpt2


def test_ids_of_generated_texts_are_the_published_ones(both):  # SPEC A1, A10; TARGETS
    ours, theirs = both
    texts = random_texts(N_TEXTS, seed=0)
    assert len(set(texts)) == N_TEXTS
    expected = theirs.encode_ordinary_batch(texts, num_threads=1)
    different = [
        (text, ids)
        for text, ids in zip(texts, expected, strict=True)
        if ours.encode_ordinary(text) != ids or ours.decode(ids) != text
    ]
    assert different == []


@given(text=st.text(ASSIGNED))
@settings(max_examples=300)
def test_ids_of_any_text_are_the_published_ones(both, text):  # SPEC A1, A10
    ours, theirs = both
    assert ours.encode_ordinary(text) == theirs.encode_ordinary(text)


def test_ids_of_the_documentation_are_the_published_ones(both):  # SPEC A1, A10
    ours, theirs = both
    text = python_documentation()
    ids = ours.encode(text)
    assert ids == theirs.encode(text)
    assert ours.decode(ids) == text
    lines = text[:50_000].splitlines(keepends=True)
    assert list(ours.encode_iterable(lines)) == theirs.encode(text[:50_000])


def test_published_ids(ours):  # SPEC A1
    # tiktoken's README and its test_simple_public.py.
    assert ours.encode("hello world") == [15339, 1917]
    assert ours.encode("hello <|endoftext|>", allowed_special="all") == [15339, 220, 100257]
    assert ours.decode([15339, 1917]) == "hello world"
    assert ours.encode("today\n ") == [31213, 198, 220]
    assert ours.encode("today\n \n") == [31213, 27907]


def test_special_tokens_are_those_of_cl100k_base(ours, theirs):  # SPEC A1
    assert ours.special_tokens == theirs._special_tokens == CL100K_SPECIAL
    assert ours.n_vocab == theirs.n_vocab == 100_277
    assert len(ours.merges) == 100_000
    dice, parts = random.Random(0), [*CL100K_SPECIAL, "<|", "|>", "endoftext", " ", "\n", "low"]
    for _ in range(300):
        text = "".join(dice.choices(parts, k=6))
        ids = ours.encode(text, allowed_special="all")
        assert ids == theirs.encode(text, allowed_special="all")
        assert ours.decode(ids) == text
        assert ours.encode_ordinary(text) == theirs.encode_ordinary(text)


def test_the_vocabulary_is_that_of_cl100k_base(ours, theirs):  # SPEC A1
    ranks = theirs._mergeable_ranks
    special = {id: text.encode() for text, id in CL100K_SPECIAL.items()}
    assert ours.vocab == {id: token for token, id in ranks.items()} | special
    assert all(ranks[left] < ranks[left + right] > ranks[right] for left, right in ours.merges)


def test_published_ids_of_gpt2():  # SPEC A1
    # Hugging Face's documentation of GPT2Tokenizer, and tiktoken's test_simple_public.py.
    tokenizer = BPETokenizer.from_tiktoken(published_by_tiktoken(gpt2))
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.encode(" Hello world") == [18435, 995]
    assert tokenizer.encode("hello <|endoftext|>", allowed_special="all") == [31373, 220, 50256]
    assert tokenizer.special_tokens == {"<|endoftext|>": 50256}
    assert (tokenizer.n_vocab, len(tokenizer.merges)) == (50_257, 50_000)
    assert tokenizer.pattern == "gpt2"


@pytest.mark.parametrize("make", [cl100k_base, gpt2])
def test_what_others_left_in_a_shared_folder_is_not_trusted(monkeypatch, tmp_path, make):  # S9
    """tiktoken keeps copies of what it read in a folder for all; a forged one isn't taken."""
    expected = published_by_tiktoken(make)._mergeable_ranks
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    make()
    copies = list(tmp_path.iterdir())
    assert len(copies) == (1 if make is cl100k_base else 2)
    for copy in copies:
        copy.write_bytes(b"#version: 0.2\n")
    assert make()._mergeable_ranks == expected


def test_there_and_back_again(both):  # SPEC A1
    ours, theirs = both
    again = ours.to_tiktoken()
    assert again._mergeable_ranks == theirs._mergeable_ranks
    assert again._special_tokens == theirs._special_tokens
    assert again._pat_str == theirs._pat_str
    assert again.n_vocab == theirs.n_vocab


def test_hostile_strings_where_tiktoken_gives_up(ours, theirs):  # TARGETS, hostile strings
    with pytest.raises(ValueError, match="Max stack size exceeded"):
        theirs.encode(" " * 999_999 + "x")  # test_bpe.py has ours
    for text in (" " * 99_999 + "x", "a" * 100_000, "😀" * 10_000, "=" * 77_777 + "\n"):
        assert ours.encode(text) == theirs.encode(text)


# Export: a tokenizer of our own


@pytest.fixture(scope="module", params=["gpt2", "gpt4"])
def trained(request):
    text = python_documentation()[:100_000] + "\n \n  \n" * 50 + "日本語 😀 é" * 50
    special_tokens = ["<|end|>", "<|begin of text|>", "\n\n\n", "日本"]
    return BPETokenizer.train(text, 1_000, special_tokens, request.param)


def test_exported_ids_are_our_own(trained):  # SPEC A1, A10
    encoding = trained.to_tiktoken()
    texts = random_texts(300, seed=1)
    texts += ["low<|end|> of<|begin of text|>", "日本語", "\n\n\n\n", "<|end|><|end|>"]
    for text in texts:
        ids = trained.encode(text, allowed_special="all")
        assert encoding.encode(text, allowed_special="all") == ids
        assert encoding.encode_ordinary(text) == trained.encode_ordinary(text)
        assert encoding.decode(ids) == text
    assert encoding.n_vocab == trained.n_vocab
    assert encoding.max_token_value == 999


def test_an_exported_tokenizer_comes_back(trained):  # SPEC A1
    again = BPETokenizer.from_tiktoken(trained.to_tiktoken())
    assert again.merges == trained.merges
    assert again.vocab == trained.vocab
    assert again.special_tokens == trained.special_tokens
    assert again.pattern == trained.pattern


def test_ids_with_gaps_can_be_exported():  # SPEC A1
    vocab = BYTES | {300: b"ab", 500: b"abc", 400: b"<a>"}
    tokenizer = BPETokenizer(vocab, [(b"a", b"b"), (b"ab", b"c")], ["<a>", "<b>"])
    encoding = tokenizer.to_tiktoken()
    expected = [500, 300, 400, 501]
    assert tokenizer.encode("abcab<a><b>", "all") == expected
    assert encoding.encode("abcab<a><b>", allowed_special="all") == expected


SWAPPED = BYTES | {257: b"ab", 256: b"bc"}  # ab was learned first, and has the greater id
EARLY = {byte + 1: token for byte, token in BYTES.items()} | {0: b"ab"}
LATE_BYTE = BYTES | {65: b"ab", 256: b"A"}


@pytest.mark.parametrize(
    ("vocab", "merges"),
    [
        (SWAPPED, [(b"a", b"b"), (b"b", b"c")]),
        (EARLY, [(b"a", b"b")]),
        (LATE_BYTE, [(b"a", b"b")]),
    ],
)
def test_ids_in_another_order_than_the_merges_are_refused(vocab, merges):  # SPEC A1
    tokenizer = BPETokenizer(vocab, merges)
    with pytest.raises(LessonsError) as caught:
        tokenizer.to_tiktoken()
    assert str(caught.value) == (
        "the ids are not in the order of the merges (vocab). "
        "Its ids must be bytes first, then merges in the order they were learned."
    )


def test_bytes_in_another_order_can_be_exported():  # SPEC A1
    backwards = {255 - byte: token for byte, token in BYTES.items()} | {256: b"ab", 257: b"bc"}
    tokenizer = BPETokenizer(backwards, [(b"a", b"b"), (b"b", b"c")])
    for text in ("abc", "bcab", "aabbcc", "z"):
        assert tokenizer.to_tiktoken().encode(text) == tokenizer.encode(text)
    assert tokenizer.encode("abc") == [256, 255 - ord("c")]


@pytest.mark.parametrize("special_tokens", [["<a>", "<a>b"], ["<a>b", "<a>"]])
def test_special_tokens_that_begin_one_another_are_not_exported(special_tokens):  # SPEC A1
    tokenizer = BPETokenizer(BYTES, [], special_tokens)
    with pytest.raises(LessonsError, match="the special token '<a>' is the beginning of '<a>b'"):
        tokenizer.to_tiktoken()


# Ranks


@pytest.mark.parametrize(
    ("tokens", "merges"),
    [
        ("ab abc", "a+b ab+c"),
        ("bc abc", "b+c a+bc"),
        ("ab bc abc", "a+b b+c ab+c"),
        ("bc ab abc", "b+c a+b a+bc"),  # in abc, bc is joined first
        ("aa aaa", "a+a aa+a"),
        ("aa aaaa", "a+a aa+aa"),
        ("", ""),
    ],
)
def test_the_merges_behind_ranks_by_hand(tokens, merges):  # SPEC A1
    ranks = BYTE_RANKS | {token.encode(): 256 + i for i, token in enumerate(tokens.split())}
    expected = [tuple(half.encode() for half in merge.split("+")) for merge in merges.split()]
    assert merges_of_ranks(ranks) == expected
    backwards = dict(reversed(ranks.items()))  # ranks count, not the order of the entries
    assert merges_of_ranks(backwards) == expected


@pytest.mark.parametrize(
    ("tokens", "what"),
    [
        ("abc", "b'abc' is not made of two tokens of lower rank, but of 3"),
        ("abcd ab cd", "b'abcd' is not made of two tokens of lower rank, but of 4"),
        ("bc ab cd abcd", "b'abcd' is not made of two tokens of lower rank, but of 3"),
    ],
)
def test_ranks_that_no_merges_give_are_refused(tokens, what):  # SPEC A1, S9
    ranks = BYTE_RANKS | {token.encode(): 256 + i for i, token in enumerate(tokens.split())}
    with pytest.raises(LessonsError) as caught:
        merges_of_ranks(ranks)
    assert caught.value.what == what
    assert caught.value.where == f"rank {ranks[what.split(chr(39))[1].encode()]}"


def test_an_encoding_with_a_pattern_of_its_own_is_refused():  # SPEC A1
    encoding = tiktoken.Encoding(
        "own", pat_str=r"\w+|\W+", mergeable_ranks=BYTE_RANKS, special_tokens={}
    )
    with pytest.raises(LessonsError, match="own splits text with a pattern of its own"):
        BPETokenizer.from_tiktoken(encoding)


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_any_encoding_with_a_known_pattern_is_taken(name):  # SPEC A1
    ranks = BYTE_RANKS | {b"lo": 256, b"low": 300}
    encoding = tiktoken.Encoding(
        "own", pat_str=PATTERNS[name], mergeable_ranks=ranks, special_tokens={"<a>": 400, "b>": 350}
    )
    tokenizer = BPETokenizer.from_tiktoken(encoding)
    assert tokenizer.merges == [(b"l", b"o"), (b"lo", b"w")]
    assert tokenizer.special_tokens == {"<a>": 400, "b>": 350}
    assert tokenizer.pattern == name
    assert tokenizer.encode("low lo<a>b>", "all") == [300, 32, 256, 400, 350]


def test_an_encoding_that_lacks_a_byte_is_refused():  # SPEC S9
    ranks = {token: rank for token, rank in BYTE_RANKS.items() if token != b"a"}
    encoding = tiktoken.Encoding(
        "own", pat_str=PATTERNS["gpt4"], mergeable_ranks=ranks, special_tokens={}
    )
    with pytest.raises(LessonsError, match="b'a' must be one token, as a byte"):
        BPETokenizer.from_tiktoken(encoding)


# The published tokenizer, run by tiktoken


@pytest.fixture(scope="module")
def published(theirs):
    return TiktokenTokenizer("cl100k_base")


def test_the_published_tokenizer_has_the_methods_of_our_own(published, ours):  # SPEC A2
    for text in ("hello world", "é 😀\n ", "", "<|endof"):
        ids = published.encode(text)
        assert ids == ours.encode(text)
        assert published.decode(ids) == text
        assert published.decode_bytes(iter(ids)) == text.encode()
    assert published.n_vocab == 100_277
    assert published.decode([0xFF - 33, 15339]) == ours.decode([0xFF - 33, 15339])
    assert published.encode("<|endoftext|>", "all") == [100257]
    assert published.encode("<|endoftext|>", ["<|endoftext|>"]) == [100257]
    assert published.encode("<|endoftext|>", "<|endoftext|>") == [100257]
    assert published.encode_ordinary("<|endoftext|>") == ours.encode_ordinary("<|endoftext|>")
    assert published.special_tokens == ours.special_tokens


def test_the_published_tokenizer_refuses_what_our_own_does(published):  # SPEC A2, S9
    with pytest.raises(LessonsError, match=r"special token '<\|endoftext\|>'"):
        published.encode("x<|endoftext|>")
    with pytest.raises(LessonsError, match=r"unknown encoding 'gpt9'\. Known: cl100k_base, gpt2"):
        TiktokenTokenizer("gpt9")


@pytest.mark.parametrize(
    "call",
    [
        lambda tokenizer: tokenizer.encode("x", ["<|END|>"]),
        lambda tokenizer: tokenizer.encode("x", "<|END|>"),
        lambda tokenizer: tokenizer.encode("low\udcff"),
        lambda tokenizer: tokenizer.encode_ordinary("low\udcff"),
        lambda tokenizer: tokenizer.decode([97, -1]),
        lambda tokenizer: tokenizer.decode_bytes(iter([97, 2**40])),
        lambda tokenizer: tokenizer.decode([97, 100_256]),
    ],
)
def test_both_refuse_in_the_same_words(published, ours, call):  # SPEC A2, S9
    said = []
    for tokenizer in (published, ours):
        with pytest.raises(LessonsError) as caught:
            call(tokenizer)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_gpt2_by_name(tmp_path):  # SPEC A2, S2
    published_by_tiktoken(gpt2)
    tokenizer = TiktokenTokenizer("gpt2")
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.n_vocab == 50_257
    assert tokenizer.special_tokens == {"<|endoftext|>": 50256}
    tokenizer.save(tmp_path / "gpt2.json")
    assert TiktokenTokenizer.load(tmp_path / "gpt2.json").name == "gpt2"


def test_the_published_tokenizer_is_saved_by_name(published, tmp_path):  # SPEC A2, S2
    path = tmp_path / "tokenizer.json"
    published.save(path)
    assert TiktokenTokenizer.load(path).encode("hello world") == [15339, 1917]
    assert len(path.read_bytes()) < 200
    good = json.loads(path.read_text(encoding="utf-8"))
    for name in good:
        path.write_text(json.dumps(good | {name: "p50k_base"}), encoding="utf-8")
        with pytest.raises(LessonsError):
            TiktokenTokenizer.load(path)
    for document in ({}, [], None, good | {"extra": 1}, {"format": good["format"]}):
        path.write_text(json.dumps(document), encoding="utf-8")
        with pytest.raises(LessonsError):
            TiktokenTokenizer.load(path)
