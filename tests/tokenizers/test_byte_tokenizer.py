"""Bytes in, the same bytes out; text that arrives in pieces is never half a character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer, decode_stream, utf8_bytes

TOKENIZER = ByteTokenizer()
# Pieces of every kind: text of all widths, and bytes that are no text at all.
MIXED = st.lists(st.one_of(st.binary(max_size=6), st.text(max_size=4).map(str.encode)))


@given(st.binary())
def test_any_bytes_come_back(data):  # SPEC F6
    assert TOKENIZER.encode(data) == [int(byte) for byte in data]
    assert TOKENIZER.decode_bytes(TOKENIZER.encode(data)) == data


@given(st.text())
def test_any_text_comes_back(text):  # SPEC F6
    ids = TOKENIZER.encode(text)
    assert bytes(ids) == text.encode("utf-8")
    assert TOKENIZER.decode(ids) == text


def test_there_is_one_token_per_byte():
    assert TOKENIZER.n_vocab == 256
    assert TOKENIZER.encode("aé€😀") == [97, 195, 169, 226, 130, 172, 240, 159, 152, 128]


def test_bytes_that_are_not_utf8_are_marked():
    assert TOKENIZER.decode([97, 255, 98]) == "a\ufffdb"
    assert TOKENIZER.decode([0xE2, 0x82]) == "\ufffd"


@pytest.mark.parametrize("token", [-1, 256, 100_000])
@pytest.mark.parametrize("method", [TOKENIZER.decode, TOKENIZER.decode_bytes])
def test_a_token_that_is_no_byte_is_named(method, token):
    with pytest.raises(LessonsError) as caught:
        method([0, 255, token])
    assert str(caught.value) == (
        f"token {token} is not in the vocabulary (position 2). Is it another tokenizer's?"
    )


def test_half_a_surrogate_pair_is_named():
    # What sys.argv holds when the terminal sent a byte that is not UTF-8.
    with pytest.raises(LessonsError, match=r"'\\udcff' is not a character \(position 2\)"):
        TOKENIZER.encode("ab\udcff")


@given(st.text())
def test_text_is_written_as_utf8_by_the_rules_of_rfc_3629(text):  # SPEC F6
    written = []
    for point in map(ord, text):
        if point < 0x80:
            written.append(point)
            continue
        n_more = 1 + (point >= 0x800) + (point >= 0x10000)
        written.append((0, 0xC0, 0xE0, 0xF0)[n_more] | point >> 6 * n_more)
        written += [0x80 | point >> 6 * i & 0x3F for i in reversed(range(n_more))]
    assert list(utf8_bytes(text)) == written


@pytest.mark.parametrize(
    ("text", "place"), [("\ud800", 0), ("aé\udfff", 2), ("😀 \ud83d\ude00", 2)]
)
def test_a_surrogate_is_named_with_its_place(text, place):  # SPEC F6, S9
    with pytest.raises(LessonsError) as caught:
        utf8_bytes(text)
    assert caught.value.what == f"{text[place]!r} is not a character"
    assert (caught.value.where, caught.value.remedy) == (
        f"position {place}",
        "Give the text as bytes.",
    )


@given(MIXED)
def test_pieces_give_the_same_text_as_the_whole(pieces):  # SPEC F6
    whole = b"".join(pieces).decode("utf-8", errors="replace")
    assert "".join(decode_stream(pieces)) == whole


@given(st.binary(max_size=40))
def test_byte_by_byte_gives_the_same_text_as_the_whole(data):  # SPEC F6
    pieces = [data[i : i + 1] for i in range(len(data))]
    assert "".join(decode_stream(pieces)) == data.decode("utf-8", errors="replace")


@given(st.text(min_size=1), st.lists(st.integers(1, 5), min_size=1))
def test_a_character_appears_when_its_last_byte_is_there_and_not_before(text, sizes):
    # SPEC F6
    data, given_so_far, shown = text.encode("utf-8"), 0, ""

    def pieces():
        nonlocal given_so_far
        turn = 0
        while given_so_far < len(data):
            # Before the next piece is asked for, all that is complete must have been shown.
            assert shown == data[:given_so_far].decode("utf-8", errors="ignore")
            size = sizes[turn % len(sizes)]
            piece, turn = data[given_so_far : given_so_far + size], turn + 1
            given_so_far += len(piece)
            yield piece

    for part in decode_stream(pieces()):
        assert part
        shown += part
        assert text.startswith(shown)
    assert shown == text


def test_an_unfinished_character_is_marked_at_the_end():  # SPEC F6
    assert list(decode_stream([b"a", b"\xe2", b"\x82"])) == ["a", "\ufffd"]
