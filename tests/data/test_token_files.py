"""Token files: bit-exact, mapped rather than read, and never half written or half believed."""

import hashlib
import json
import mmap
import os
import pickle
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.data import token_files
from transformer_lessons.data.documents import encode_documents
from transformer_lessons.data.token_files import open_tokens, tokenize_corpus
from transformer_lessons.errors import LessonsError
from transformer_lessons.support import documents as reading
from transformer_lessons.support.documents import Document
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tokenizer import fingerprint

DOCUMENTS = ["the cat sat", "x", "né😀\n\n  x", "and with an end"]
TEXT = "One and two and three.\n\nThen 1,234 and é€😀 and\r\n  more   words\tand words.\n" * 40


class SparseTokenizer(ByteTokenizer):
    """Bytes under large ids: 40,000 + byte, or what `offset` says."""

    offset, n_vocab = 40_000, 65_536

    def encode_ordinary(self, text):
        return [self.offset + byte for byte in text.encode()]


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(
        TEXT + "the cat sat on the mat", 320, special_tokens=["<|endoftext|>"]
    )


@pytest.fixture
def jsonl(tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    return path


def test_ids_and_facts_are_what_the_tokenizer_says(tokenizer, jsonl, tmp_path):  # SPEC S3
    tokens = tokenize_corpus(jsonl, tokenizer, tmp_path / "t.npy")
    expected = []
    for text in DOCUMENTS:
        expected += [*tokenizer.encode_ordinary(text), tokenizer.special_tokens["<|endoftext|>"]]
    assert tokens.ids.tolist() == expected
    assert tokens.facts == {
        "tokenizer_sha256": fingerprint(tokenizer),
        "source_sha256": hashlib.sha256(jsonl.read_bytes()).hexdigest(),
        "separator": "",
        "n_documents": 4,
        "n_bytes": len("".join(DOCUMENTS).encode()),
        "n_tokens": len(expected),
    }
    again = open_tokens(str(tmp_path / "t.npy"), tokenizer)
    assert again.facts == tokens.facts
    assert again.ids.tolist() == np.load(tmp_path / "t.npy").tolist() == expected


@pytest.mark.parametrize(
    ("n_vocab", "offset", "dtype"),
    [(256, 0, "<u2"), (65_536, 65_280, "<u2"), (65_537, 65_281, "<u4")],
)
def test_ids_have_two_bytes_up_to_65536_of_them(tmp_path, n_vocab, offset, dtype):  # SPEC S3
    class Tokenizer(SparseTokenizer):
        pass

    Tokenizer.n_vocab, Tokenizer.offset = n_vocab, offset
    (tmp_path / "a.txt").write_bytes(bytes([0, 97, 0x7F]) + "ÿ".encode())
    tokens = tokenize_corpus(tmp_path / "a.txt", Tokenizer(), tmp_path / "a.npy")
    assert tokens.ids.dtype == np.dtype(dtype)
    assert tokens.ids.tolist() == [offset + byte for byte in b"\x00\x61\x7f\xc3\xbf"]


@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_a_long_text_is_one_document(tmp_path, tokenizer, suffix, monkeypatch):  # SPEC S3
    monkeypatch.setattr(reading, "MAX_BYTES", 70)  # so that a short text comes in many pieces
    path, reports = tmp_path / f"a.{suffix}", []
    path.write_bytes(json.dumps({"text": TEXT}).encode() if suffix == "jsonl" else TEXT.encode())
    report = lambda *numbers: reports.append(numbers)  # noqa: E731
    tokens = tokenize_corpus(path, tokenizer, tmp_path / "a.npy", report=report)
    *ids, end = tokens.ids.tolist()
    assert tokenizer.decode(ids) == TEXT
    assert end == tokenizer.special_tokens["<|endoftext|>"] not in ids
    assert (tokens.facts["n_documents"], tokens.facts["n_bytes"]) == (1, len(TEXT.encode()))
    assert len(reports) > 20
    assert reports == sorted(reports)
    assert reports[-1] == (len(TEXT.encode()), len(tokens.ids))


def test_a_separator_makes_many_documents_and_is_written_down(tmp_path, tokenizer):  # SPEC S3
    (tmp_path / "a.txt").write_bytes(b"the cat<|endoftext|>sat\n<|endoftext|>\n")
    made = [tmp_path / "a.txt", tokenizer, tmp_path / "a.npy"]
    tokens = tokenize_corpus(*made, separator="<|endoftext|>")
    end = tokenizer.special_tokens["<|endoftext|>"]
    expected = [*tokenizer.encode("the cat"), end, *tokenizer.encode("sat\n"), end]
    assert tokens.ids.tolist() == expected
    assert (tokens.facts["n_documents"], tokens.facts["separator"]) == (2, "<|endoftext|>")
    with pytest.warns(UserWarning, match=r"endoftext\|> \(2\)"):
        assert tokenize_corpus(*made).facts["separator"] == ""


@given(text=st.text(alphabet="ab é€😀\r\n.1", min_size=1))
def test_no_byte_of_a_text_is_changed(text):
    parts = encode_documents([Document(text, "a")], ByteTokenizer())
    assert bytes(id for _, ids in parts for id in ids) == text.encode()


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_opening_a_large_file_reads_none_of_it(tmp_path):  # SPEC S3
    n_tokens = 2**31  # 8 GB, all holes
    path = tmp_path / "large.npy"
    ids = np.lib.format.open_memmap(path, "w+", dtype="<u4", shape=(n_tokens,))
    ids[-1] = 77
    del ids
    facts = dict.fromkeys(token_files.FACTS, "ab") | {"n_tokens": n_tokens}
    (tmp_path / "large.json").write_text(json.dumps(facts))
    before = resident_bytes()
    tokens = open_tokens(path)
    assert isinstance(tokens.ids, np.memmap)
    assert tokens.ids.shape == (n_tokens,)
    assert tokens.ids[-1] == 77
    assert resident_bytes() - before < 2**24


def test_an_open_file_goes_to_another_process_as_its_path(tokenizer, jsonl, tmp_path):
    tokens = tokenize_corpus(jsonl, tokenizer, tmp_path / "t.npy")
    sent = pickle.dumps(tokens)
    assert len(sent) < 1_000
    again = pickle.loads(sent)
    assert isinstance(again.ids, np.memmap)
    assert again.ids.tolist() == tokens.ids.tolist()
    with pytest.raises(ValueError, match="read-only"):
        again.ids[0] = 1


def test_no_documents_make_an_empty_file(tokenizer, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    tokens = tokenize_corpus(tmp_path / "empty.jsonl", tokenizer, tmp_path / "empty.npy")
    assert (len(tokens.ids), tokens.facts["n_documents"]) == (0, 0)
    assert tokens.ids.dtype == np.uint16


def test_another_tokenizers_ids_are_refused(tokenizer, jsonl, tmp_path):  # SPEC S9
    tokenize_corpus(jsonl, tokenizer, tmp_path / "t.npy")
    other = BPETokenizer.train("the cat sat on the mat", 264, special_tokens=["<|endoftext|>"])
    with pytest.raises(LessonsError, match=r"^the ids are another tokenizer's \(.*t\.npy\)\. Use"):
        open_tokens(tmp_path / "t.npy", other)


@pytest.fixture
def good(tmp_path):
    """A token file of 5 ids of two bytes."""
    (tmp_path / "a.txt").write_text("abcde")
    return tokenize_corpus(tmp_path / "a.txt", ByteTokenizer(), tmp_path / "a.npy").path


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"\x89PNG" + bytes(200),
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: data.replace(b"'<u2'", b"'<u4'"),
        lambda data: data.replace(b"'<u2'", b"'|O8'"),
        lambda data: data.replace(b"'<u2'", b"'<i2'"),
        lambda data: data.replace(b"(5,)", b"(4,)"),
        lambda data: data.replace(b"(5,)", b"(6,)"),
        lambda data: data.replace(b"(5,), } ", b"(5,1), }"),
    ],
)
def test_damage_is_named(good, damage):  # SPEC S9 S2
    good.write_bytes(damage(good.read_bytes()))
    with pytest.raises(LessonsError, match=r"\(.*a\.npy\)\. Encode the text again"):
        open_tokens(good)


@given(
    changes=st.lists(st.tuples(st.integers(0, 137), st.integers(0, 255)), max_size=4),
    length=st.integers(100, 144),
)
def test_a_mutated_file_opens_or_is_refused(tmp_path_factory, changes, length):  # SPEC S9
    folder = tmp_path_factory.mktemp("mutated")
    (folder / "a.txt").write_text("abcde")
    path = tokenize_corpus(folder / "a.txt", ByteTokenizer(), folder / "a.npy").path
    data = bytearray(path.read_bytes())
    assert len(data) == 138
    for place, value in changes:
        data[place] = value
    path.write_bytes(bytes(data[:length]))
    with suppress(LessonsError):
        assert open_tokens(path).ids.tolist() == np.frombuffer(data[128:], "<u2").tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {"n_tokens": 4},
        {"n_tokens": "5"},
        {"path": "../x"},
    ],
)
def test_facts_of_something_else_are_refused(good, changes):  # SPEC S9
    facts = good.with_suffix(".json")
    facts.write_text(json.dumps(json.loads(facts.read_text()) | changes))
    with pytest.raises(LessonsError, match=r"uint16\[5\] is not what a\.json says"):
        open_tokens(good)
    for text in ("[]", "{", "{}"):
        facts.write_text(text)
        with pytest.raises(LessonsError, match=r"a\.json"):
            open_tokens(good)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.npy", r"can't read it: No such.*no\.json"),
        ("a.tokens", r"can't read it: No such.*a\.json"),
    ],
)
def test_a_file_that_can_not_be_read_is_named(tmp_path, name, message):
    with pytest.raises(LessonsError, match=message):
        open_tokens(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", r"^not JSON: "),
        (b"[1]", r"^no text: "),
        (b'{"text": "\xff"}', r"^not UTF-8: byte 10 "),
        (b'{"text": "a\\ud800"}', r"^not UTF-8: byte 1 "),
        (b'{"text": ""}', r"^empty "),
    ],
)
def test_a_bad_line_ends_it_and_leaves_what_was_there(tokenizer, jsonl, tmp_path, line, message):
    path = tmp_path / "t.npy"  # SPEC S3 S9
    tokenize_corpus(jsonl, tokenizer, path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    before["bad.jsonl"] = jsonl.read_bytes() + line + b"\n" + b'{"text": "a"}\n'
    (tmp_path / "bad.jsonl").write_bytes(before["bad.jsonl"])
    with pytest.raises(LessonsError, match=message) as caught:
        tokenize_corpus(tmp_path / "bad.jsonl", tokenizer, path)
    assert "bad.jsonl, line 5" in str(caught.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_token_file_has_the_name_of_an_array(good):
    with pytest.raises(LessonsError, match=r"not the name of a token file.*NAME\.npy"):
        tokenize_corpus(good.with_suffix(".txt"), ByteTokenizer(), good.with_suffix(".json"))
    assert len(open_tokens(good).ids) == 5


@pytest.mark.parametrize("name", ["a.txt.gz", "a", "no.jsonl"])
def test_another_kind_of_file_is_refused(tmp_path, name):
    (tmp_path / "a.txt.gz").write_bytes(b"x")
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(LessonsError, match=name):
        tokenize_corpus(tmp_path / name, ByteTokenizer(), tmp_path / "t.npy")
    assert not (tmp_path / "t.npy").exists()


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_disk_leaves_nothing_behind(
    tokenizer, jsonl, tmp_path, monkeypatch, function, error
):  # SPEC S3
    def fail(*_):
        raise error

    monkeypatch.setattr(token_files, "fingerprint", lambda tokenizer: "ab" * 32)
    monkeypatch.setattr(os, function, fail)
    with pytest.raises((LessonsError, KeyboardInterrupt)) as raised:
        tokenize_corpus(jsonl, tokenizer, tmp_path / "t.npy")
    if isinstance(error, OSError):
        assert "can't write it: No space left on device (" in str(raised.value)
        assert "t.npy" in str(raised.value)
    assert [file.name for file in tmp_path.iterdir()] == [jsonl.name]
