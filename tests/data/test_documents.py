"""One text with marks between its documents: split there, wherever the reader cut it."""

import itertools
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.data.batches import encode_and_hold_out
from transformer_lessons.data.documents import (
    END_OF_TEXT,
    encode_documents,
    separate_documents,
)
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import Document
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer

BYTES = {i: bytes([i]) for i in range(256)}
WITH_END = BPETokenizer(BYTES, [], [END_OF_TEXT])
END = WITH_END.special_tokens[END_OF_TEXT]


def in_pieces(text, cuts):
    """The text as a reader hands out one that is too long: cut, and only the last is an end."""
    bounds = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    parts = [text[start:stop] for start, stop in itertools.pairwise(bounds)] or [""]
    return [Document(part, "a.txt", part is parts[-1]) for part in parts]


def joined(documents):
    """The texts of documents, their pieces put together again."""
    texts = [""]
    for document in documents:
        texts[-1] += document.text
        texts += [""] if document.is_end else []
    assert texts.pop() == "", "the last piece is an end"
    return texts


@given(
    parts=st.lists(st.text(alphabet="a<|x ", max_size=6), min_size=2, max_size=6),
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_documents_are_what_python_splits_wherever_the_text_was_cut(parts, cuts):
    text, separator = "<|x|>".join(parts), "<|x|>"
    found = joined(separate_documents(in_pieces(text, cuts), separator))
    # A document whose beginning has been handed out is kept, even if it turns out to be blank.
    assert [page for page in found if page.strip()] == [
        page for page in text.split(separator) if page.strip()
    ]
    if not cuts:
        assert all(page.strip() for page in found)


def test_documents_stay_apart_and_keep_their_sources():
    documents = [Document("a--b", "one"), Document("c", "two"), Document("--d--\n", "three")]
    found = [(page.text, page.source) for page in separate_documents(documents, "--")]
    assert found == [("a", "one"), ("b", "one"), ("c", "two"), ("d", "three")]


def test_a_long_text_is_not_held_in_memory():
    pieces = (Document("x" * 100, "a.txt", n == 999) for n in range(1000))
    first = next(separate_documents(pieces, "--"))
    assert (len(first.text), first.is_end) == (100, False)
    assert sum(1 for _ in pieces) == 999


@pytest.mark.parametrize("separator", ["<|end|>", ""])
def test_a_separator_that_is_nowhere_is_refused(separator):
    with pytest.raises(LessonsError, match=rf"^'{separator.replace('|', '.')}' is nowhere in the"):
        list(separate_documents([Document("one<|endoftext|>two", "a.txt")], separator))


def test_ids_are_those_of_the_marked_text():
    text = "one\n<|endoftext|>\ntwo<|endoftext|>three"
    pages = separate_documents([Document(text, "a.txt")], END_OF_TEXT)
    ids = [id for _, some in encode_documents(pages, WITH_END) for id in some]
    assert ids == [*WITH_END.encode(text, allowed_special="all"), END]


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), WITH_END])
def test_marks_that_become_plain_text_are_a_warning_with_their_count(tokenizer):
    documents = [Document("one<|endoftext|>two", "a"), Document("<|endoftext|>" * 1233, "b")]
    with pytest.warns(UserWarning, match=r"as plain text: <\|endoftext\|> \(1,234\)\. A sep"):
        rows = [ids for _, ids in encode_documents(documents, tokenizer)]
    assert len(rows[0]) == len(documents[0].text) + (tokenizer is WITH_END)


def test_a_text_without_marks_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(encode_documents([Document("one <|end|> two", "a")], WITH_END))


@pytest.mark.parametrize("held_out", [0.05, 0.3, 0.9])
def test_whole_documents_are_held_out(held_out):
    pages = [f"{n}" * (n % 7 + 1) for n in range(10, 40)]
    text = Document("--".join(pages), "a.txt")
    train, rest = encode_and_hold_out([text], WITH_END, held_out, separator="--")
    expected = [[*page.encode(), END] for page in pages]
    assert [*train.tolist(), *rest.tolist()] == list(itertools.chain(*expected))
    sizes = list(itertools.accumulate(map(len, expected)))
    assert len(train) in sizes
    assert rest.tolist()[-1] == END
    # Half of the longest document is as near as it can be to the share.
    assert abs(len(rest) - held_out * sizes[-1]) <= max(map(len, expected)) / 2 + 1


def test_without_a_separator_a_text_is_cut_by_tokens():
    train, rest = encode_and_hold_out([Document("abcdefghij", "a")], ByteTokenizer(), 0.2)
    assert (bytes(train.tolist()), bytes(rest.tolist())) == (b"abcdefgh", b"ij")
