"""Files of documents as ids: the same as for whole texts, and errors that name the place."""

import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.data import encoding
from transformer_lessons.data.encoding import Part, encode_file, group_parts, read_parts
from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.pretokenizer import safe_blocks

TEXT = "One and two and three.\n\nThen 1,234 and é€😀 and\r\n  more   words\tand words.\n" * 40


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few bytes, so that a short file has many."""
    monkeypatch.setattr(encoding, "BLOCK", 7)
    monkeypatch.setattr(encoding, "safe_blocks", partial(safe_blocks, size=30))


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(TEXT, 320, special_tokens=["<|endoftext|>"])


def ids_of(path, tokenizer, **options):
    return [id for part in encode_file(path, tokenizer, **options) for id in part.ids]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_text_file_is_one_document_with_the_ids_of_its_whole_text(
    tmp_path, tokenizer, n_workers
):  # SPEC S3
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode())
    parts = list(encode_file(path, tokenizer, end_of_text=319, n_workers=n_workers))
    assert len(parts) > 20
    ids = [id for part in parts for id in part.ids]
    assert ids == [*tokenizer.encode(TEXT), 319]
    assert sum(part.n_documents for part in parts) == 1
    assert sum(part.n_bytes for part in parts) == len(TEXT.encode())
    assert parts[-1].n_read == len(TEXT.encode())


@given(text=st.text(alphabet="ab é€😀\r\n.1"))
def test_no_byte_of_a_text_file_is_changed(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(text.encode())
    assert bytes(ids_of(path, ByteTokenizer())) == text.encode()


def test_without_end_of_text_documents_follow_one_another(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "ab", "source": "x"}\n{"text": "c"}')
    assert ids_of(path, ByteTokenizer()) == [97, 98, 99]
    assert ids_of(path, ByteTokenizer(), end_of_text=0) == [97, 98, 0, 99, 0]


def test_groups_are_large_enough_and_keep_the_order(monkeypatch):
    monkeypatch.setattr(encoding, "BLOCK", 10)
    parts = [Part("x" * (n % 4), True, n) for n in range(50)]
    groups = list(group_parts(parts))
    assert [part for group in groups for part in group] == parts
    sizes = [sum(len(part.text) + 1 for part in group) for group in groups]
    assert all(10 <= size < 14 for size in sizes[:-1])
    assert 1 <= sizes[-1] < 14


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1]", 'no "text" that is a string'),
        (b'{"txt": "a"}', 'no "text" that is a string'),
        (b'{"text": 1}', 'no "text" that is a string'),
        (b'{"text": null}', 'no "text" that is a string'),
        (b'{"text": "\xff"}', "not JSON: .*can't decode byte 0xff in position 10"),
        (b"[" * 100_000, "not JSON"),
        (b'{"text": ' + b"1" * 5_000 + b"}", "not JSON"),
        (b'{"text": "a\\ud800"}', r"is not a character \(.*a\.jsonl, line 2, position 1\)"),
        ('{"text": "a"}'.encode("utf-16-be") + b"\0", "not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):  # SPEC S9
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n' + line + b'\n{"text": "b"}\n')
    with pytest.raises(LessonsError, match=message) as raised:
        list(read_parts(path))
    assert "a.jsonl, line 2" in str(raised.value)


def test_an_endless_line_is_refused_before_it_is_read(tmp_path, monkeypatch):  # SPEC S9
    monkeypatch.setattr(encoding, "LONGEST_LINE", 100)
    path = tmp_path / "a.jsonl"
    line = json.dumps({"text": "a" * 87})
    path.write_text(f"{line}\n")
    assert len(line) == 99
    assert [len(part.text) for part in read_parts(path)] == [87]
    path.write_text(f"{line} \n")
    with pytest.raises(LessonsError, match=r"^longer than 100 bytes \(.*a\.jsonl, line 1\)"):
        list(read_parts(path))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"ab\xffcd", 2),
        (b"a" * 20 + b"\xff", 20),
        (b"a" * 6 + b"\xe2\x82" + b"b" * 9, 6),  # the euro sign, begun in one block and not ended
        ("é".encode() * 9 + b"\xc3", 18),
        (b"\xf0\x9f\x98", 0),
    ],
)
def test_a_bad_byte_is_named(tmp_path, data, place):  # SPEC S9
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(LessonsError, match=rf"^not UTF-8: .*a\.txt, byte {place}\)"):
        list(read_parts(path))


@pytest.mark.parametrize("name", ["a.parquet", "a", "a.TXT.gz"])
def test_another_kind_of_file_is_refused(tmp_path, name):
    with pytest.raises(
        LessonsError, match=r"^neither \.jsonl nor \.txt \(.*\)\. Give a \.txt file"
    ):
        list(read_parts(tmp_path / name))


def test_a_file_that_is_not_there_is_named(tmp_path):
    for name in ("no.txt", "no.jsonl"):
        with pytest.raises(LessonsError, match=rf"^can't read it: No such file.*{name}\)"):
            list(read_parts(tmp_path / name))
