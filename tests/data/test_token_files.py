"""Token files: bit-exact, mapped rather than read, and never half written or half believed."""

import hashlib
import json
import mmap
import os
import pickle
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.data import token_files
from transformer_lessons.data.token_files import (
    HEADER_SIZE,
    TokenHeader,
    open_tokens,
    pack_header,
    tokenize_file,
    unpack_header,
)
from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tokenizer import fingerprint

DOCUMENTS = ["the cat sat", "", "né😀\n\n  x", "with <|endoftext|> inside"]
HEADER = TokenHeader(300, 299, "ab" * 32, "cd" * 32, n_documents=2, n_bytes=7, n_tokens=3)


class SparseTokenizer(ByteTokenizer):
    """Bytes under large ids: 40,000 + byte, or what `offset` says."""

    offset, n_vocab = 40_000, 65_536

    def encode_ordinary(self, text):
        return [self.offset + byte for byte in text.encode()]


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train("the cat sat on the mat", 265, special_tokens=["<|endoftext|>"])


@pytest.fixture
def jsonl(tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    return path


def test_ids_and_header_are_what_the_tokenizer_says(tokenizer, jsonl, tmp_path):  # SPEC S3
    tokens = tokenize_file(jsonl, tokenizer, tmp_path / "t.tokens")
    expected = []
    for text in DOCUMENTS:
        expected += [*tokenizer.encode_ordinary(text), tokenizer.special_tokens["<|endoftext|>"]]
    assert tokens.ids.tolist() == expected
    assert expected.count(tokens.header.end_of_text) == len(DOCUMENTS)  # the one in the text is not
    assert tokens.header == TokenHeader(
        n_vocab=265,
        end_of_text=tokenizer.special_tokens["<|endoftext|>"],
        tokenizer_sha256=fingerprint(tokenizer),
        source_sha256=hashlib.sha256(jsonl.read_bytes()).hexdigest(),
        n_documents=4,
        n_bytes=len("".join(DOCUMENTS).encode()),
        n_tokens=len(expected),
    )
    again = open_tokens(str(tmp_path / "t.tokens"), tokenizer)
    assert again.header == tokens.header
    assert again.ids.tolist() == expected


def test_the_bytes_on_disk_are_the_documented_ones(tmp_path):  # SPEC S3
    (tmp_path / "a.txt").write_text("ab")
    path = tmp_path / "a.tokens"
    tokenize_file(tmp_path / "a.txt", SparseTokenizer(), path)
    data = path.read_bytes()
    fields = struct.unpack("<8sIIQqQQQ", data[:56])
    assert fields == (b"tltokens", 1, 2, 65_536, -1, 1, 2, 2)
    assert data[56:88].hex() == fingerprint(SparseTokenizer())
    assert data[88:120] == hashlib.sha256(b"ab").digest()
    assert data[120:128] == bytes(4) + struct.pack("<I", zlib.crc32(data[:124]))
    assert data[128:] == struct.pack("<2H", 40_097, 40_098)


@pytest.mark.parametrize(
    ("n_vocab", "offset", "dtype"),
    [
        (256, 0, "<u2"),
        (65_536, 65_280, "<u2"),
        (65_537, 65_281, "<u4"),
        (2**32, 2**32 - 256, "<u4"),
    ],
)
def test_ids_have_two_bytes_up_to_65536_of_them(tmp_path, n_vocab, offset, dtype):  # SPEC S3
    class Tokenizer(SparseTokenizer):
        pass

    Tokenizer.n_vocab, Tokenizer.offset = n_vocab, offset
    (tmp_path / "a.txt").write_bytes(bytes([0, 97, 0x7F]) + "ÿ".encode())
    tokens = tokenize_file(tmp_path / "a.txt", Tokenizer(), tmp_path / "a.tokens")
    assert tokens.ids.dtype == np.dtype(dtype)
    assert tokens.ids.tolist() == [offset + byte for byte in b"\x00\x61\x7f\xc3\xbf"]
    assert (tmp_path / "a.tokens").stat().st_size == 128 + 5 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("n_workers", [2, 3])
def test_any_number_of_workers_writes_the_same_file(tokenizer, tmp_path, monkeypatch, n_workers):
    monkeypatch.setattr("transformer_lessons.data.encoding.BLOCK", 50)  # many groups
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"text": f"the {n} cats " * 3}) + "\n" for n in range(200)))
    one = tokenize_file(path, tokenizer, tmp_path / "one.tokens")
    tokenize_file(path, tokenizer, tmp_path / "more.tokens", n_workers=n_workers)
    assert one.header.n_documents == 200
    assert (tmp_path / "one.tokens").read_bytes() == (tmp_path / "more.tokens").read_bytes()


def test_progress_is_reported(tokenizer, jsonl, tmp_path, monkeypatch):
    monkeypatch.setattr("transformer_lessons.data.encoding.BLOCK", 1)
    reports = []
    report = lambda *numbers: reports.append(numbers)  # noqa: E731
    tokens = tokenize_file(jsonl, tokenizer, tmp_path / "t.tokens", report=report)
    ends = (tokens.ids == tokens.header.end_of_text).nonzero()[0] + 1
    assert [n_tokens for _, n_tokens in reports] == ends.tolist()
    assert reports[-1] == (jsonl.stat().st_size, tokens.header.n_tokens)


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_opening_a_large_file_reads_none_of_it(tmp_path):  # SPEC S3
    n_tokens = 2**31  # 8 GB, all holes
    path = tmp_path / "large.tokens"
    with path.open("wb") as file:
        file.write(pack_header(replace(HEADER, n_vocab=2**20, end_of_text=None, n_tokens=n_tokens)))
        file.truncate(HEADER_SIZE + 4 * n_tokens)
        file.seek(HEADER_SIZE + 4 * (n_tokens - 1))
        file.write(struct.pack("<I", 77))
    before = resident_bytes()
    tokens = open_tokens(path)
    assert isinstance(tokens.ids, np.memmap)
    assert tokens.ids.shape == (n_tokens,)
    assert tokens.ids[-1] == 77
    assert resident_bytes() - before < 2**24


def test_an_open_file_goes_to_another_process_as_its_path(tokenizer, jsonl, tmp_path):
    tokens = tokenize_file(jsonl, tokenizer, tmp_path / "t.tokens")
    sent = pickle.dumps(tokens)
    assert len(sent) < 1_000
    again = pickle.loads(sent)
    assert isinstance(again.ids, np.memmap)
    assert again.ids.tolist() == tokens.ids.tolist()
    assert again.header == tokens.header


def test_the_ids_can_not_be_overwritten(tokenizer, jsonl, tmp_path):
    tokens = tokenize_file(jsonl, tokenizer, tmp_path / "t.tokens")
    with pytest.raises(ValueError, match="read-only"):
        tokens.ids[0] = 1


def test_no_documents_make_an_empty_file(tokenizer, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    tokens = tokenize_file(tmp_path / "empty.jsonl", tokenizer, tmp_path / "empty.tokens")
    assert (len(tokens.ids), tokens.header.n_documents) == (0, 0)
    assert tokens.ids.dtype == np.uint16


def test_another_tokenizers_ids_are_refused(tokenizer, jsonl, tmp_path):  # SPEC S9
    tokenize_file(jsonl, tokenizer, tmp_path / "t.tokens")
    other = BPETokenizer.train("the cat sat on the mat", 264, special_tokens=["<|endoftext|>"])
    with pytest.raises(
        LessonsError, match=r"^the ids are another tokenizer's \(.*t\.tokens\)\. Use"
    ):
        open_tokens(tmp_path / "t.tokens", other)


def write(path, data):
    path.write_bytes(data)
    return path


GOOD = pack_header(HEADER) + bytes(6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a token file"),
        (b"\x89PNG" + bytes(200), "not a token file"),
        (GOOD[:8], "8 bytes, but the header alone has 128"),
        (GOOD[:127], "127 bytes, but the header alone has 128"),
        (GOOD[:8] + b"\2" + GOOD[9:], "version 2 is not 1"),
        (GOOD[:20] + b"\xff" + GOOD[21:], "the header is damaged"),
        (GOOD[:-1], "133 bytes instead of 134 for 3 tokens"),
        (GOOD[:128], "128 bytes instead of 134 for 3 tokens"),
        (GOOD + b"\0", "135 bytes instead of 134 for 3 tokens"),
    ],
)
def test_damage_is_named(tmp_path, data, message):  # SPEC S9
    path = write(tmp_path / "t.tokens", data)
    with pytest.raises(LessonsError, match=rf"^{message} \(.*t\.tokens\)\. .*ncode"):
        open_tokens(path)


def test_a_flipped_bit_is_found_wherever_in_the_header(tmp_path):  # SPEC S9
    path = write(tmp_path / "t.tokens", GOOD)
    assert open_tokens(path).header == HEADER
    for place in range(HEADER_SIZE):
        flipped = bytearray(GOOD)
        flipped[place] ^= 1 << place % 8
        write(path, flipped)
        with pytest.raises(LessonsError, match=r"t\.tokens"):
            open_tokens(path)


def forged(**changes):
    """A header with a right checksum around fields that can't be."""
    fields = {
        **{"magic": b"tltokens", "version": 1, "id_size": 2, "n_vocab": 300, "end_of_text": 299},
        **{"n_documents": 2, "n_bytes": 7, "n_tokens": 3, "hashes": bytes(64)},
        **changes,
    }
    data = struct.pack("<8sIIQqQQQ64s", *fields.values()).ljust(124, b"\0")
    return data + struct.pack("<I", zlib.crc32(data))


@pytest.mark.parametrize(
    "changes",
    [
        {"id_size": 4},
        {"id_size": 0},
        {"n_vocab": 0},
        {"n_vocab": 2**32 + 1},
        {"n_vocab": 70_000},
        {"end_of_text": 300},
        {"end_of_text": -2},
        {"n_tokens": 2**63},
        {"n_tokens": 4},
    ],
)
def test_a_forged_header_is_refused(tmp_path, changes):  # SPEC S9
    open_tokens(write(tmp_path / "good.tokens", forged() + bytes(6)))
    path = write(tmp_path / "t.tokens", forged(**changes) + bytes(6))
    with pytest.raises(LessonsError, match=r"the header is damaged|bytes instead of"):
        open_tokens(path)


@given(
    changes=st.lists(st.tuples(st.integers(0, 133), st.integers(0, 255)), max_size=4),
    length=st.integers(0, 140),
)
def test_a_mutated_file_opens_or_is_refused(tmp_path_factory, changes, length):  # SPEC S9
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    path = write(tmp_path_factory.mktemp("mutated") / "t.tokens", bytes(data[:length]))
    if path.read_bytes() == GOOD:
        assert open_tokens(path).header == HEADER
    elif data[:128] == GOOD[:128] and length >= 134:  # other ids, which nothing can tell
        assert open_tokens(path).ids.tolist() == np.frombuffer(data[128:], "<u2").tolist()
    else:
        with pytest.raises(LessonsError, match=r"t\.tokens"):
            open_tokens(path)


@given(
    st.integers(1, 2**32).flatmap(
        lambda n: st.tuples(st.just(n), st.none() | st.integers(0, n - 1))
    ),
    st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3),
    st.binary(min_size=64, max_size=64).map(bytes.hex),
)
def test_headers_come_back(sizes, counts, hashes):
    header = TokenHeader(*sizes, hashes[:64], hashes[64:], *counts)
    assert unpack_header(pack_header(header)) == header


@pytest.mark.parametrize("missing", ["no.tokens", "."])
def test_a_file_that_can_not_be_read_is_named(tmp_path, missing):
    with pytest.raises(LessonsError, match="can't read it: "):
        open_tokens(tmp_path / missing)


def test_a_failure_half_way_leaves_what_was_there(tokenizer, jsonl, tmp_path):  # SPEC S3
    path = tmp_path / "t.tokens"
    tokenize_file(jsonl, tokenizer, path)
    before = path.read_bytes()
    with jsonl.open("a") as file:
        file.write("{\n")
    for n_workers in (1, 2):
        with pytest.raises(LessonsError, match="line 5"):
            tokenize_file(jsonl, tokenizer, path, n_workers)
        assert path.read_bytes() == before
        assert sorted(file.name for file in tmp_path.iterdir()) == [jsonl.name, path.name]


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_disk_leaves_nothing_behind(
    tokenizer, jsonl, tmp_path, monkeypatch, function, error
):  # SPEC S3
    def fail(*_):
        raise error

    monkeypatch.setattr(token_files, "fingerprint", lambda tokenizer: "ab" * 32)
    monkeypatch.setattr(token_files.os, function, fail)
    with pytest.raises((LessonsError, KeyboardInterrupt)) as raised:
        tokenize_file(jsonl, tokenizer, tmp_path / "t.tokens")
    if isinstance(error, OSError):
        assert "can't write it: No space left on device (" in str(raised.value)
        assert "t.tokens" in str(raised.value)
    assert [file.name for file in tmp_path.iterdir()] == [jsonl.name]


def test_a_place_that_is_not_there_is_named(tokenizer, jsonl, tmp_path):
    with pytest.raises(LessonsError, match=r"can't write it: No such file.*no/t\.tokens"):
        tokenize_file(jsonl, tokenizer, tmp_path / "no" / "t.tokens")


def test_a_source_that_is_not_there_is_named(tokenizer, tmp_path):
    with pytest.raises(LessonsError, match=r"can't read it: No such file.*no\.jsonl"):
        tokenize_file(tmp_path / "no.jsonl", tokenizer, tmp_path / "t.tokens")
    assert list(tmp_path.iterdir()) == []
