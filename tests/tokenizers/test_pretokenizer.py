"""Chunks: the same as tiktoken's own, and the same however the text arrives."""

import itertools
import unicodedata

import pytest
import regex
import tiktoken
import tiktoken_ext.openai_public
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers import pretokenizer as splitting
from transformer_lessons.tokenizers.pretokenizer import (
    PATTERNS,
    special_pattern,
    split_pattern,
    split_text,
    stream_chunks,
)

NAMES = sorted(PATTERNS)
# Characters that this Python knows. Newer letters are in the tables of `regex` before tiktoken's.
ASSIGNED = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=20)
# Every class that the patterns tell apart, contractions in both cases, and letters whose other case
# is one of those in the contractions.
TELLING = st.text("a'sSlLvVrRedtmſ1٣²! \t\n\r\x0b\x1c\u00a0\u2003\u0301é日😀_", max_size=14)


def tiktoken_chunks(texts, name):
    """How tiktoken cuts each of `texts`: every substring is a token, so a chunk is one token."""
    parts = {text[i:j].encode() for text in texts for i, j in itertools.combinations(range(30), 2)}
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += sorted(part for part in parts if len(part) > 1)
    ranks = {token: rank for rank, token in enumerate(tokens)}
    encoding = tiktoken.Encoding(
        "all", pat_str=PATTERNS[name], mergeable_ranks=ranks, special_tokens={}
    )
    return [[tokens[id].decode() for id in encoding.encode_ordinary(text)] for text in texts]


def chunks_of_whole(text, name, special_tokens):
    """The chunks of a text that is all there, by looking at one place after the other."""
    chunks, start, place = [], 0, 0
    while place < len(text):
        here = [token for token in special_tokens if text.startswith(token, place)]
        if not here:
            place += 1
            continue
        token = max(here, key=len)
        chunks += [(chunk, False) for chunk in split_text(text[start:place], name)]
        chunks.append((token, True))
        start = place = place + len(token)
    return chunks + [(chunk, False) for chunk in split_text(text[start:], name)]


def test_the_patterns_are_those_that_tiktoken_publishes(monkeypatch):  # SPEC A1
    monkeypatch.setattr(tiktoken_ext.openai_public, "load_tiktoken_bpe", lambda *a, **k: {})
    published = tiktoken_ext.openai_public
    assert PATTERNS["gpt2"] == published.r50k_pat_str
    assert PATTERNS["gpt4"] == published.cl100k_base()["pat_str"]
    assert PATTERNS["gpt4"] != PATTERNS["gpt2"]


@pytest.mark.parametrize(
    ("text", "gpt2", "gpt4"),
    [
        ("dog. dog!", ["dog", ".", " dog", "!"], ["dog", ".", " dog", "!"]),
        ("I'LL he's", ["I", "'", "LL", " he", "'s"], ["I", "'LL", " he", "'s"]),
        ("x = 12345", ["x", " =", " 12345"], ["x", " =", " ", "123", "45"]),
        ("a   b", ["a", "  ", " b"], ["a", "  ", " b"]),
        ("a\n\n  b", ["a", "\n\n ", " b"], ["a", "\n\n", " ", " b"]),
        ("a \n ", ["a", " \n "], ["a", " \n "]),
        ("-word", ["-", "word"], ["-word"]),
        ("};\n\n", ["};", "\n\n"], ["};\n\n"]),
        ("", [], []),
    ],
)
def test_chunks_by_hand(text, gpt2, gpt4):  # SPEC A1
    assert split_text(text, "gpt2") == gpt2
    assert split_text(text, "gpt4") == split_text(text) == gpt4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("letters", ["a' \n\r1!", "'sSlLſ K", "\u00a0 \t\n a\u200b", "é\u0301 1①'"])
def test_all_short_texts_are_cut_as_by_tiktoken(name, letters):  # SPEC A1, A10
    texts = ["".join(t) for n in range(5) for t in itertools.product(letters, repeat=n)]
    assert [split_text(text, name) for text in texts] == tiktoken_chunks(texts, name)


@pytest.mark.parametrize("name", NAMES)
@given(st.lists(st.one_of(TELLING, ASSIGNED), max_size=8))
def test_random_texts_are_cut_as_by_tiktoken(name, texts):  # SPEC A1, A10
    assert [split_text(text, name) for text in texts] == tiktoken_chunks(texts, name)


@pytest.mark.parametrize("kind", [r"\p{L}", r"\p{N}", r"\s"])
def test_every_character_is_of_the_same_kind_for_tiktoken(kind):  # SPEC A10
    known = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding("kind", pat_str=kind, mergeable_ranks=ranks, special_tokens={})
    theirs = bytes(
        encoding.encode_ordinary("|".join(known))
    ).decode()  # what the pattern leaves out
    assert "".join(filter(regex.compile(kind).match, known)) == theirs
    assert len(theirs) >= 25


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text())
def test_joined_chunks_are_the_text(name, text):  # SPEC A1
    chunks = split_text(text, name)
    assert "".join(chunks) == text
    assert all(chunks)


@pytest.mark.parametrize("ask", [split_pattern, lambda name: split_text("a", name)])
def test_an_unknown_pattern_is_refused(ask):  # SPEC S9
    with pytest.raises(LessonsError) as caught:
        ask("(a+)+b")
    assert str(caught.value) == (
        "unknown split pattern '(a+)+b' (pattern). "
        "Known patterns: gpt2, gpt4, smollm2, llama3, qwen2."
    )


def test_special_tokens_are_plain_text_and_the_longest_wins():  # SPEC A1
    tokens = ["<a", "<a>b", "<a>", ".*"]
    found = special_pattern(tokens).findall("x<a>b<a><ay.*")
    assert found == ["<a>b", "<a>", "<a", ".*"]
    assert special_pattern([]) is None


# Special tokens that begin one another, overlap, and hold white space, quotes and letters.
SPECIALS = st.lists(st.text("<|> \n'la", min_size=1, max_size=4), max_size=4, unique=True)
STREAMED = st.lists(st.one_of(st.text("<|> \n'lLvrea1!", max_size=6), st.text(max_size=3)))


@pytest.mark.parametrize("name", NAMES)
@given(pieces=STREAMED, special_tokens=SPECIALS, look_again=st.integers(1, 10))
@settings(max_examples=600)
@example(["'l", "l"], [], 1)  # the apostrophe alone is a chunk, until the second l is there
@example(["a'v", "e"], ["x"], 3)
def test_a_stream_is_cut_like_the_whole(name, pieces, special_tokens, look_again):  # SPEC A1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "LOOK_AGAIN", look_again)
        streamed = list(stream_chunks(pieces, name, special_tokens))
    assert streamed == chunks_of_whole("".join(pieces), name, special_tokens)


@pytest.mark.parametrize("name", NAMES)
def test_all_short_texts_are_cut_alike_letter_by_letter(name, monkeypatch):  # SPEC A1
    monkeypatch.setattr(splitting, "LOOK_AGAIN", 1)
    for letters in ["'lver ", "a \n\r!1"]:
        for text in map("".join, itertools.product(letters, repeat=5)):
            streamed = [chunk for chunk, _ in stream_chunks(list(text), name)]
            assert streamed == split_text(text, name)


def test_special_tokens_are_found_across_pieces(monkeypatch):  # SPEC A1
    monkeypatch.setattr(splitting, "LOOK_AGAIN", 1)
    special_tokens = ["<|end|>", "<|end|> of", "\n\n"]
    for text in ["low<|end|> of low", "low<|end|> o", "a\n\n\nb", "<|end|", "<|end|><|end|> of"]:
        expected = chunks_of_whole(text, "gpt4", special_tokens)
        assert any(is_special for _, is_special in expected) or text == "<|end|"
        assert list(stream_chunks(list(text), special_tokens=special_tokens)) == expected


@pytest.mark.parametrize("letter", ["a", " ", "!", "<"])
@pytest.mark.parametrize("special_tokens", [[], ["<|end|>"]])
def test_one_endless_chunk_is_not_scanned_again_and_again(monkeypatch, letter, special_tokens):
    # SPEC A1
    n, scanned, cut = 1_000_000, [], splitting._cut

    def counting(text, *rest, **named):
        scanned.append(len(text))
        return cut(text, *rest, **named)

    monkeypatch.setattr(splitting, "_cut", counting)
    pieces = (letter * 1_000 for _ in range(n // 1_000))
    assert list(stream_chunks(pieces, special_tokens=special_tokens)) == [(letter * n, False)]
    assert sum(scanned) < 4 * n  # looking at every piece would scan 500 n


def test_only_a_little_of_the_text_is_held():  # SPEC A1
    taken, given_back, most = 0, 0, 0

    def pieces():
        nonlocal taken
        for number in range(20_000):
            piece = f"line {number} of the text,\n "
            taken += len(piece)
            yield piece

    for chunk, _ in stream_chunks(pieces(), special_tokens=["<|end|>"]):
        most = max(most, taken - given_back)
        given_back += len(chunk)
    assert taken == given_back > 5 * splitting.LOOK_AGAIN
    assert most < splitting.LOOK_AGAIN + 100
