"""Stop strings against a search in the whole text, however the text is cut."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import eos_token_ids
from transformer_lessons.generation.text_stream import TextStreamer, until_stop
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer

# Few letters and short pieces: beginnings of stop strings, whole and in parts, are common.
PIECES = st.lists(st.text("ab", max_size=3), max_size=8)
STOP = st.text("ab", min_size=2, max_size=5)
STOPS = st.lists(STOP, max_size=3)


def cut_text(text: str, stops: list[str]) -> str:
    """The text before the first stop string that is complete, found by trying every length."""
    for end in range(len(text) + 1):
        starts = [text[:end].find(stop) for stop in stops if stop in text[:end]]
        if starts:
            return text[: min(starts)]
    return text


@settings(max_examples=300)
@given(PIECES, STOPS)
@example(["aa", "b"], ["aab"])  # the longest beginning waits, not the shortest
@example(["abbb"], ["abbb", "bb"])  # what is complete first counts, not what begins first
def test_the_text_ends_where_a_search_in_all_of_it_says(pieces, stops):  # SPEC F10
    assert "".join(until_stop(pieces, stops)) == cut_text("".join(pieces), stops)


@given(PIECES, STOP)
def test_one_stop_string_is_str_find(pieces, stop):
    text = "".join(pieces)
    end = text.find(stop)
    assert "".join(until_stop(pieces, [stop])) == (text if end < 0 else text[:end])


@settings(max_examples=300)
@given(PIECES, STOPS)
def test_no_more_is_held_back_than_must_be(pieces, stops):
    """After each piece, all is out but the longest end that begins a stop string."""
    asked = []

    def watched():
        for piece in pieces:
            asked.append(piece)
            yield piece

    stream, shown = until_stop(watched(), stops), ""
    text = "".join(pieces)
    for piece in stream:
        shown += piece
        so_far = "".join(asked)
        if len(asked) == len(pieces) or cut_text(so_far, stops) != so_far:
            continue
        ends = [so_far[start:] for start in range(len(so_far) + 1)]
        held = next(end for end in ends if any(stop.startswith(end) for stop in [*stops, ""]))
        assert shown == so_far.removesuffix(held)
    assert shown == cut_text(text, stops)


def test_no_piece_is_asked_for_after_the_end():
    pieces = iter(["one", " STO", "P two", "three"])
    assert list(until_stop(pieces, ["STOP"])) == ["one", " "]
    assert next(pieces) == "three"


def test_no_stop_strings_change_nothing():
    assert list(until_stop(["a", "", "b"], [])) == ["a", "b"]


def test_an_empty_stop_string_is_refused():
    with pytest.raises(LessonsError, match="a stop string is empty"):
        next(until_stop(["a"], ["b", ""]))


def test_the_streamer_knows_why_it_ended():
    def reason(tokens, stop):
        streamer = TextStreamer(ByteTokenizer(), tokens, stop=stop)
        return "".join(streamer), streamer.finish_reason, len(streamer.read_tokens)

    assert reason(b"abc", ["bc"]) == ("a", "stop_string", 3)
    assert reason(b"abcd", ["bc"]) == ("a", "stop_string", 3)
    assert reason(b"abcd", ["de"]) == ("abcd", "length", 4)
    interrupted = TextStreamer(ByteTokenizer(), iter(b"ab"))
    assert (next(iter(interrupted)), interrupted.finish_reason) == ("a", None)


def test_an_end_of_text_token_ends_it_and_is_not_shown():
    tokenizer = BPETokenizer.train("", 258, ["<|endoftext|>", "<|mine|>"])
    eos = eos_token_ids(tokenizer)
    assert eos == {256}
    streamer = TextStreamer(tokenizer, [97, 256, 98], eos)
    assert "".join(streamer) == streamer.text == "a"
    assert (streamer.finish_reason, streamer.read_tokens) == ("end_of_text", [97, 256])


def test_an_id_without_a_token_is_shown_as_a_replacement_character():
    streamer = TextStreamer(ByteTokenizer(), [97, 305, 98])
    assert "".join(streamer) == "a\ufffdb"
    assert (streamer.finish_reason, streamer.read_tokens) == ("length", [97, 305, 98])


def test_characters_are_whole():  # SPEC F10
    assert list(TextStreamer(ByteTokenizer(), "né€".encode())) == ["n", "é", "€"]
