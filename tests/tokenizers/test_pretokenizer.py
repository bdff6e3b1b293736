"""Pre-tokens: tiktoken's own, from two engines for regular expressions, wherever a text is cut."""

import itertools
import random
import unicodedata

import pytest
import regex
import tiktoken
import tiktoken_ext.openai_public
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.tokenizers import pretokenizer
from transformer_lessons.tokenizers.pretokenizer import (
    PATTERNS,
    STRETCH,
    ascii_pattern,
    last_safe_cut,
    pretokenize,
    safe_blocks,
    special_pattern,
    split_pattern,
    split_special,
)

NAMES = sorted(PATTERNS)
ALL = pytest.mark.parametrize("name", NAMES)
# Characters that this Python knows. Newer letters are in the tables of `regex` before tiktoken's.
ASSIGNED = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=20)
# Every class that the patterns tell apart, contractions in both cases, and letters whose other case
# is one of those in the contractions.
TELLING = st.text("a'sSlLvVrRedtmſ1٣²! \t\n\r\x0b\x1c\u00a0\u2003\u0301é日😀_", max_size=14)


# What the patterns tell apart, and the control characters that programs disagree about.
KINDS = "aslTV'1 \n\r\t-\x0b\x1c\x1f\x00"


def findall(text, name="gpt4"):
    """The pre-tokens by the pattern itself, in one go."""
    return split_pattern(name).findall(text)


def tiktoken_pretokens(texts, name):
    """How tiktoken cuts each of `texts`: every substring is a token, so a pre-token is one."""
    parts = {text[i:j].encode() for text in texts for i, j in itertools.combinations(range(30), 2)}
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += sorted(part for part in parts if len(part) > 1)
    ranks = {token: rank for rank, token in enumerate(tokens)}
    encoding = tiktoken.Encoding(
        "all", pat_str=PATTERNS[name], mergeable_ranks=ranks, special_tokens={}
    )
    return [[tokens[id].decode() for id in encoding.encode_ordinary(text)] for text in texts]


def parts_of(text, name, special_tokens):
    """The pre-tokens and special tokens of a text, by looking at one place after the other."""
    parts, start, place = [], 0, 0
    while place < len(text):
        here = [token for token in special_tokens if text.startswith(token, place)]
        if not here:
            place += 1
            continue
        token = max(here, key=len)
        parts += [*findall(text[start:place], name), token]
        start = place = place + len(token)
    return parts + findall(text[start:], name)


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
def test_pretokens_by_hand(text, gpt2, gpt4):  # SPEC A1
    assert pretokenize(text, "gpt2") == gpt2
    assert pretokenize(text, "gpt4") == pretokenize(text) == gpt4


@ALL
@pytest.mark.parametrize("letters", ["a' \n\r1!", "'sSlLſ K", "\u00a0 \t\n a\u200b", "é\u0301 1①'"])
def test_all_short_texts_are_cut_as_by_tiktoken(name, letters):  # SPEC A1, A10
    texts = ["".join(t) for n in range(5) for t in itertools.product(letters, repeat=n)]
    assert [pretokenize(text, name) for text in texts] == tiktoken_pretokens(texts, name)


@ALL
@given(st.lists(st.one_of(TELLING, ASSIGNED), max_size=8))
def test_random_texts_are_cut_as_by_tiktoken(name, texts):  # SPEC A1, A10
    assert [pretokenize(text, name) for text in texts] == tiktoken_pretokens(texts, name)


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


@ALL
@given(text=st.text())
def test_joined_pretokens_are_the_text(name, text):  # SPEC A1
    pretokens = pretokenize(text, name)
    assert "".join(pretokens) == text
    assert all(pretokens)


@pytest.mark.parametrize("ask", [split_pattern, lambda name: pretokenize("a", name)])
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
    assert special_pattern([]).findall("x<a>") == []


# Two engines


@ALL
def test_every_short_ascii_text_is_split_alike(name):  # SPEC A1
    plain = ascii_pattern(name)
    for n in range(1, 4):
        for letters in itertools.product(KINDS, repeat=n):
            text = "".join(letters)
            assert plain.findall(text) == findall(text, name), repr(text)


@ALL
@given(text=st.text(st.characters(max_codepoint=127), max_size=40))
@settings(max_examples=200)
def test_every_ascii_text_is_split_alike(name, text):  # SPEC A1
    assert ascii_pattern(name).findall(text) == findall(text, name)


@ALL
@given(pieces=st.lists(st.one_of(st.text(), st.sampled_from(["ab ", "é", " ", "1\n"]))))
@example(["don't", " ", "caf", "é", "'LL", "ſ"])
def test_text_is_split_alike_whatever_stretches_it_is_cut_into(name, pieces):  # SPEC A1
    text = "".join(pieces)
    for size in (1, 4, 9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pretokenizer, "STRETCH", size)
            assert pretokenize(text, name) == findall(text, name)


@ALL
def test_a_long_text_with_a_few_other_letters_is_split_alike(name):  # SPEC A1
    dice = random.Random(0)
    letters = list(python_documentation()[: 5 * STRETCH])
    for place in dice.sample(range(2 * STRETCH, 3 * STRETCH), k=20):
        letters[place] = dice.choice("éß中😀²")
    text = "".join(letters)
    assert pretokenize(text, name) == findall(text, name)


def test_only_stretches_with_other_letters_need_the_slower_engine(monkeypatch):  # SPEC A1
    asked = []

    class Watched:
        def findall(self, text):
            asked.append(text)
            return findall(text)

    text = "one two " * 10_000 + "é " + "three " * 10_000
    expected = findall(text)
    monkeypatch.setattr(pretokenizer, "split_pattern", lambda name: Watched())
    assert pretokenize(text) == expected
    assert 0 < sum(map(len, asked)) <= 2 * STRETCH
    assert "é" in asked[0]


# Special tokens


def test_special_tokens_and_what_is_between_them():  # SPEC A1
    found = list(split_special("x<a>y<a>bz", ["<a>", "<a>b"], "all"))
    assert [part for part, is_special in found if is_special] == ["<a>", "<a>b"]
    assert [part for part, is_special in found if not is_special] == ["x", "y", "z"]
    with pytest.raises(LessonsError, match=r"special token '<a>b' \(character 105\)"):
        list(split_special("x<a>y<a>bz", ["<a>", "<a>b"], ["<a>"], n_before=100))
    with pytest.raises(LessonsError, match=r"'<b>' is not a special token \(allowed_special\)"):
        list(split_special("x", ["<a>"], ["<b>"]))


# Cutting a text into blocks

# Special tokens that begin one another, overlap, and hold white space, quotes and letters.
SPECIALS = st.lists(st.text("<|> \n'la", min_size=1, max_size=4), max_size=4, unique=True)
PIECES = st.lists(st.one_of(st.text("<|> \n'lLvrea1!é", max_size=6), st.text(max_size=3)))


@ALL
@given(pieces=PIECES, size=st.integers(1, 30), special_tokens=SPECIALS)
@settings(max_examples=300)
@example(["<xyzw a>bcdefghijk"], 18, ["<xyz", "w a>", "zw"])  # zw is not there: z is in <xyz
@example(["'l", "l"], 1, [])  # the apostrophe alone is a pre-token, until the second l is there
@example(["a'v", "e"], 3, ["x"])
def test_blocks_are_cut_inside_no_pretoken(name, pieces, size, special_tokens):  # SPEC A1, A10
    text, blocks = "".join(pieces), list(safe_blocks(pieces, special_tokens, size))
    assert "".join(blocks) == text
    assert all(blocks)
    parts = [part for block in blocks for part in parts_of(block, name, special_tokens)]
    assert parts == parts_of(text, name, special_tokens)


@ALL
def test_all_short_texts_are_cut_alike_letter_by_letter(name):  # SPEC A1
    for letters in ["'lver ", "a \n\r!1"]:
        for text in map("".join, itertools.product(letters, repeat=5)):
            blocks = safe_blocks(text, size=1)
            assert [p for block in blocks for p in findall(block, name)] == findall(text, name)


@pytest.mark.parametrize(
    ("text", "special_tokens", "cut"),
    [
        ("one two three", [], 7),
        ("one  two", [], 3),
        ("one, two", [], 4),
        ("1 2", [], 1),
        ("1\t2", [], 1),
        ("1\n2\r3", [], 3),
        ("!\n-\r", [], 0),  # a sign takes the ends of lines behind it along
        ("  1  ", [], 3),
        ("1,234", [], 1),
        ("-,-", [], 0),
        ("one", [], 0),
        ("don't", [], 3),
        ("one1", [], 3),
        ("1, 2 one", [], 4),
        ("", [], 0),
        ("one two three", ["two three"], 3),  # behind 7 a token could go on
        ("one two three four five", ["two three"], 13),
        ("a b c d", ["b c"], 1),  # 3 is inside a token, 5 too near the end
        ("é ß", [], 1),
        ("ab cd", ["b "], 0),
    ],
)
def test_the_last_safe_cut_by_hand(text, special_tokens, cut):  # SPEC A1
    longest = max(map(len, special_tokens), default=0)
    assert last_safe_cut(text, special_pattern(special_tokens), longest) == cut


def test_text_in_pieces_comes_in_blocks_of_about_the_size_asked_for():  # SPEC A1
    text = python_documentation()[:100_000]
    pieces = [text[i : i + 500] for i in range(0, len(text), 500)]
    sizes = [len(block) for block in safe_blocks(pieces, [], 10_000)]
    assert sum(sizes) == 100_000
    assert all(9_000 < size < 11_000 for size in sizes[:-1])


def test_a_single_string_comes_in_blocks_too():  # SPEC A1
    text = python_documentation()[:100_000]
    sizes = [len(block) for block in safe_blocks([text], [], 10_000)]
    assert all(9_000 < size < 11_000 for size in sizes[:-1])


def test_text_without_a_safe_cut_is_not_searched_again_and_again(monkeypatch):  # SPEC A1
    searched = []

    def counting_search(text, special, longest):
        searched.append(len(text))
        return last_safe_cut(text, special, longest)

    monkeypatch.setattr(pretokenizer, "last_safe_cut", counting_search)
    assert list(safe_blocks(("x" for _ in range(50_000)), size=100)) == ["x" * 50_000]
    assert sum(searched) < 4 * 50_000


def test_only_a_little_of_the_text_is_held():  # SPEC A1
    taken = given_back = most = 0

    def pieces():
        nonlocal taken
        for number in range(20_000):
            piece = f"{number}, {number * 2}\n"
            taken += len(piece)
            yield piece

    for block in safe_blocks(pieces(), ["<|end|>"], size=10_000):
        most = max(most, taken - given_back)
        given_back += len(block)
    assert taken == given_back > 200_000
    assert most < 10_100
