"""Counts of chunks: the same from one process or several, and from any pieces of the text."""

from collections import Counter
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.tokenizers import blocks as blocks_module
from transformer_lessons.tokenizers import counting
from transformer_lessons.tokenizers.blocks import last_safe_cut, safe_blocks
from transformer_lessons.tokenizers.counting import count_block, count_chunks
from transformer_lessons.tokenizers.pretokenizer import special_pattern, split_text, stream_chunks

PIECES = st.lists(st.text("ab '\n1<|>é", max_size=9), max_size=12)
# Tokens in which a safe cut could fall, and that begin one another.
TAME = ["<|a b|>", "<|a b|> a", "<|"]
WILD = st.lists(st.text("ab <", min_size=1, max_size=4), max_size=4, unique=True)


def small_blocks(pieces, special_tokens, size):
    return list(safe_blocks(pieces, special_tokens, size))


def boundaries(text, pattern, special_tokens):
    """Every place of `text` where one chunk ends and another begins."""
    places, place = {0}, 0
    for chunk, _ in stream_chunks([text], pattern, special_tokens):
        place += len(chunk)
        places.add(place)
    return places


def test_counts_by_hand():  # SPEC A1
    text = "low lower low<|end|> lower 12345\n"
    assert count_chunks([text], special_tokens=["<|end|>"]) == {
        b"low": 1,
        b" lower": 2,
        b" low": 1,
        b" ": 1,
        b"123": 1,
        b"45": 1,
        b"\n": 1,
    }
    assert count_chunks([text], "gpt2")[b" 12345"] == 1
    assert count_chunks([]) == {}


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
@given(text=st.text())
def test_counts_are_those_of_a_counter(pattern, text):  # SPEC A1
    chunks = split_text(text, pattern)
    assert count_chunks([text], pattern) == Counter(chunk.encode() for chunk in chunks)


@given(pieces=PIECES)
def test_pieces_count_like_the_whole(pieces):  # SPEC A1
    chunks = stream_chunks(["".join(pieces)], "gpt4", TAME)
    expected = Counter(chunk.encode() for chunk, is_special in chunks if not is_special)
    assert count_chunks(pieces, "gpt4", TAME) == expected


def blocks_count_like_the_whole(pieces, pattern, special_tokens, size):
    text, blocks = "".join(pieces), small_blocks(pieces, special_tokens, size)
    assert "".join(blocks) == text
    assert all(blocks)
    place, places = 0, boundaries(text, pattern, special_tokens)
    for block in blocks:
        place += len(block)
        assert place in places
    total = Counter()
    for block in blocks:
        total.update(count_block(block, pattern, special_tokens))
    chunks = stream_chunks([text], pattern, special_tokens)
    assert total == Counter(chunk.encode() for chunk, is_special in chunks if not is_special)


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
@given(pieces=PIECES, size=st.integers(1, 30), special_tokens=st.sampled_from([TAME, []]))
@settings(max_examples=200)
def test_blocks_are_cut_inside_no_chunk(pattern, pieces, size, special_tokens):  # SPEC A1
    blocks_count_like_the_whole(pieces, pattern, special_tokens, size)


@given(pieces=PIECES, size=st.integers(1, 30), special_tokens=WILD)
@example(["<xyzw a>bcdefghijk"], 18, ["<xyz", "w a>", "zw"])  # zw is not there: z is in <xyz
@settings(max_examples=400)
def test_blocks_are_cut_inside_no_special_token_of_any_kind(pieces, size, special_tokens):
    # SPEC A1
    blocks_count_like_the_whole(pieces, "gpt4", special_tokens, size)


@pytest.mark.parametrize(
    ("text", "special_tokens", "cut"),
    [
        ("one two three", [], 7),
        ("one  two", [], 3),
        ("one, two", [], 4),
        ("1 2", [], 1),
        ("1\t2", [], 1),
        ("1\n2\r3", [], 0),  # a sign takes the ends of lines behind it along
        ("  1  ", [], 3),
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
    sizes = [len(block) for block in small_blocks(pieces, [], 10_000)]
    assert sum(sizes) == 100_000
    assert all(9_000 < size < 11_000 for size in sizes[:-1])


def test_a_single_string_comes_in_blocks_too():  # SPEC A1
    text = python_documentation()[:100_000]
    sizes = [len(block) for block in small_blocks([text], [], 10_000)]
    assert all(9_000 < size < 11_000 for size in sizes[:-1])


def test_text_without_a_safe_cut_is_not_searched_again_and_again(monkeypatch):  # SPEC A1
    searched = []

    def counting_search(text, special, longest):
        searched.append(len(text))
        return last_safe_cut(text, special, longest)

    monkeypatch.setattr(blocks_module, "last_safe_cut", counting_search)
    assert list(safe_blocks(("x" for _ in range(50_000)), size=100)) == ["x" * 50_000]
    assert sum(searched) < 4 * 50_000


@pytest.mark.parametrize("special_tokens", [[], ["iterator", "an iterator"]])
def test_workers_count_like_one_process(monkeypatch, special_tokens):  # SPEC A1
    monkeypatch.setattr(counting, "safe_blocks", partial(safe_blocks, size=9_000))
    text = python_documentation()[:200_000]
    pieces = [text[i : i + 777] for i in range(0, len(text), 777)]
    alone = count_chunks(pieces, special_tokens=special_tokens)
    assert (b" iterator" in alone) == (not special_tokens)
    assert count_chunks(pieces, special_tokens=special_tokens, n_workers=2) == alone
    assert sum(len(chunk) * n for chunk, n in alone.items()) > 190_000


def test_an_error_in_a_worker_arrives():  # SPEC S9
    with pytest.raises(LessonsError, match=r"'\\udcff' is not a character"):
        count_chunks(["one two three\udcff"], n_workers=2)
