"""Reading documents: everything that is there is either a document or reported by name."""

import codecs
import io
import json
import os
import random
import subprocess
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transformer_lessons.errors import LessonsError
from transformer_lessons.support import documents, parquet
from transformer_lessons.support.documents import (
    MAX_BYTES,
    Document,
    Dropped,
    read_documents,
    read_json_lines,
    read_parquet,
    read_pieces,
    read_text,
)


def read(*paths):
    """What is read, and what is reported, both with paths relative to the first one's folder."""
    reported = []
    found = list(read_documents(paths, reported.append))
    return found, reported


def read_bytes(data, reader=read_text, source="a.txt"):
    reported = []
    return list(reader(io.BytesIO(data), source, reported.append)), reported


def fineweb_table(n_rows):
    """Rows with the columns of FineWeb."""
    rows = range(n_rows)
    return pa.table(
        {
            "text": [f"Page {row}, with a ü." for row in rows],
            "id": [f"<urn:uuid:{row}>" for row in rows],
            "dump": ["CC-MAIN-2024-10"] * n_rows,
            "url": [f"http://localhost/{row}" for row in rows],
            "date": ["2024-03-01T00:00:00Z"] * n_rows,
            "file_path": ["../../etc/passwd"] * n_rows,
            "language": ["en"] * n_rows,
            "language_score": [0.9] * n_rows,
            "token_count": list(rows),
        }
    )


def test_files_and_folders_in_order_of_their_names(tmp_path):  # SPEC S1
    folder = tmp_path / "a földer"
    (folder / "b").mkdir(parents=True)
    (folder / "c.txt").write_text("third")
    (folder / "b" / "z.md").write_text("second")
    (folder / "a.py").write_text("first")
    (folder / "d.jsonl").write_text('{"text": "fourth"}\n{"text": "fifth"}\n')
    pq.write_table(pa.table({"text": ["sixth"]}), folder / "e.PARQUET")
    found, reported = read(folder)
    assert [document.text for document in found] == [
        *("first", "second", "third", "fourth", "fifth", "sixth")
    ]
    assert found[1].source == str(folder / "b" / "z.md")
    assert found[4].source == f"{folder}/d.jsonl, line 2"
    assert found[5].source == f"{folder}/e.PARQUET, row 1"
    assert reported == []
    # The order of what is named counts; a file may be named as well as a folder.
    assert [document.text for document in read(folder / "c.txt", folder / "a.py")[0]] == [
        "third",
        "first",
    ]


def test_what_a_folder_should_not_lead_to_is_reported(tmp_path):  # SPEC S9 S1
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "x.txt").write_text("secret")
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("fine")
    (folder / "out.txt").symlink_to("../secret.txt")
    (folder / "sub" / "out").symlink_to(tmp_path / "secrets")
    (folder / "sub" / "round").symlink_to(folder)
    (folder / "sub" / "inside.txt").symlink_to("../a.txt")
    (folder / "broken.txt").symlink_to("nowhere.txt")
    (folder / "self.txt").symlink_to("self.txt")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.txt").write_text("hidden")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    os.mkfifo(folder / "pipe.txt")
    found, reported = read(folder)
    assert [document.text for document in found] == ["fine", "fine"]  # the link that stays inside
    assert [(dropped.source[len(str(folder)) + 1 :], dropped.reason) for dropped in reported] == [
        (".hidden", "hidden"),
        ("broken.txt", "broken link"),
        ("out.txt", "link out of the folder"),
        ("picture.png", "not a kind of file that is read"),
        ("pipe.txt", "not a regular file"),
        ("self.txt", "broken link"),
        ("sub/out", "link out of the folder"),
        ("sub/round", "link to a folder"),
    ]


def test_a_folder_that_is_a_link_itself_is_read(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("fine")
    (tmp_path / "link").symlink_to("real")
    assert [document.text for document in read(tmp_path / "link")[0]] == ["fine"]


def test_very_deep_folders_are_no_problem(tmp_path):
    folder = tmp_path
    for _ in range(1200):  # more than Python's limit of nested calls
        folder /= "d"
        folder.mkdir()
    (folder / "a.txt").write_text("deep")
    try:
        assert [document.text for document in read(tmp_path)[0]] == ["deep"]
    finally:  # pytest's own tidying would fail at that depth
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)


def test_a_file_name_may_have_any_bytes(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\n.txt"
    with open(path, "wb") as file:
        file.write(b"fine")
    (document,), _ = read(tmp_path)
    assert document == Document("fine", f"{tmp_path}/\ufffd\n.txt")


def test_a_path_that_is_not_there_raises_before_anything_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("fine")
    with pytest.raises(LessonsError, match=r"no such file or folder \(.*x\.txt\)"):
        read_documents([tmp_path / "a.txt", tmp_path / "x.txt"], print)


def test_a_file_that_may_not_be_read_is_reported(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("secret")
    (tmp_path / "b.txt").write_text("fine")

    def refuse(path, mode):
        if path.name == "a.txt":
            raise PermissionError(13, "Permission denied")
        return open(path, mode)

    monkeypatch.setattr(documents, "open", refuse, raising=False)  # root may read anything
    found, reported = read(tmp_path)
    assert [document.text for document in found] == ["fine"]
    assert reported == [Dropped(str(tmp_path / "a.txt"), "unreadable", "Permission denied")]


def test_an_empty_file_is_reported():
    assert read_bytes(b"") == ([], [Dropped("a.txt", "empty")])


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"abc\xffdef", 3),
        ("grüße".encode("latin-1"), 2),
        ("ü".encode()[:1], 0),
        (b"\xed\xa0\x80", 0),
    ],
)
def test_bad_utf8_is_reported_with_its_place(data, place):
    assert read_bytes(data) == ([], [Dropped("a.txt", "not UTF-8", f"byte {place}")])


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF8 + "ü".encode())
    (tmp_path / "b.jsonl").write_bytes(codecs.BOM_UTF8 + b'{"text": "one"}\n{"text": "two"}\n')
    assert [document.text for document in read(tmp_path)[0]] == ["ü", "one", "two"]


@pytest.mark.parametrize("encoding", ["UTF-16-LE", "UTF-16-BE", "UTF-32-LE", "UTF-32-BE"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_another_encoding_is_named_and_nothing_of_it_is_read(tmp_path, encoding, name):
    text = "\ufeff" + '{"text": "one"}\n' * 100_000  # more than one piece
    (tmp_path / name).write_bytes(text.encode(encoding))
    where, what = str(tmp_path / name), f"it is {encoding[:6]}, not UTF-8"
    assert read(tmp_path) == ([], [Dropped(where, "unreadable", what)])
    with pytest.raises(LessonsError, match=rf"^{what} \(.*{name}\)\. Save it as UTF-8\.$"):
        list(read_documents([tmp_path]))


def test_bad_utf8_in_one_piece_leaves_the_others():  # SPEC S1
    line = b"x" * 99 + b"\n"
    data = bytearray(line * 25_000)
    data[1_700_000] = 0xFF
    found, reported = read_bytes(bytes(data))
    assert reported == [Dropped("a.txt, byte 1000000", "not UTF-8", "byte 1700000")]
    assert [(document.source, len(document.text)) for document in found] == [
        ("a.txt", 1_000_000),
        ("a.txt, byte 2000000", 500_000),
    ]


@pytest.mark.parametrize("size", [0, 1, MAX_BYTES - 1, MAX_BYTES, MAX_BYTES + 1, 2 * MAX_BYTES + 7])
@pytest.mark.parametrize("unit", [b"x", b"word ", b"a line\n", "\U0001f600".encode(), b"\x80"])
def test_pieces_are_the_file_and_none_is_too_long(size, unit):
    data = (unit * (size // len(unit) + 1))[:size]
    pieces = list(read_pieces(io.BytesIO(data)))
    assert b"".join(piece for _, piece, _ in pieces) == data
    assert all(len(piece) <= MAX_BYTES for _, piece, _ in pieces)
    assert [is_end for *_, is_end in pieces] == [False] * (len(pieces) - 1) + [True]
    assert len(pieces) == {0: 1, 1: 1, 2: 3}.get(size // MAX_BYTES, 1) + (size == MAX_BYTES + 1)
    place = 0
    for start, piece, _ in pieces:
        assert start == place
        place += len(piece)
    if unit != b"\x80":
        for _, piece, _ in pieces[:-1]:
            assert piece.endswith(unit)  # never inside a word, a line or a character


def test_a_cut_prefers_a_line_break_but_not_far_from_the_end():
    words = b"word " * 200_000
    late, early = bytearray(words + words), bytearray(words + words)
    late[600_000:600_001] = b"\n"
    early[400_000:400_001] = b"\n"
    assert next(read_pieces(io.BytesIO(late)))[1] == late[:600_001]
    assert next(read_pieces(io.BytesIO(early)))[1] == early[:1_000_000]


def test_json_lines_name_the_bad_ones():  # SPEC S1
    lines = [
        b'\xef\xbb\xbf{"text": "first", "url": "../../x"}\r\n',
        b'{"text": "cut off',
        b'{"text": 7}',
        b'["text"]',
        b'{"txt": "x"}',
        b'{"text": "\xff"}',
        b'{"text": "half \\ud800 a character"}',
        b'{"text": "\\ud83d\\ude00"}',
        b'{"text": ""}',
        b"",
        b"[" * 100_000,
        b'{"text": "x", "n": ' + b"9" * 5000 + b"}",
    ]
    found, reported = read_bytes(b"\n".join(lines), read_json_lines, "a.jsonl")
    assert found == [Document("first", "a.jsonl, line 1"), Document("😀", "a.jsonl, line 9")]
    assert [(dropped.source.split()[-1], dropped.reason) for dropped in reported] == [
        ("2", "not JSON"),
        ("3", "not JSON"),
        ("4", "no text"),
        ("5", "no text"),
        ("6", "no text"),
        ("7", "not UTF-8"),
        ("8", "not UTF-8"),
        ("10", "empty"),
        ("11", "not JSON"),
        ("12", "not JSON"),
        ("13", "not JSON"),
    ]


def test_a_line_of_json_that_is_too_long_is_passed_over(monkeypatch):  # SPEC S9
    monkeypatch.setattr(documents, "MAX_LINE", 20)
    whole = b'{"text": "123456"}\n'
    assert len(whole) == 19
    long = b'{"text": "12345678901234567890123456789"}\n'
    exact = b'{"text": "1234567"}\n'
    found, reported = read_bytes(whole + long + exact + long, read_json_lines, "a.jsonl")
    assert [document.text for document in found] == ["123456", "1234567"]
    reason = ("line too long", "over 20 bytes")
    assert reported == [Dropped(f"a.jsonl, line {n}", *reason) for n in (2, 4)]


def test_a_long_text_in_json_is_cut_as_a_file_is():
    data = json.dumps({"text": "word " * 300_000}).encode()
    found, _ = read_bytes(data, read_json_lines, "a.jsonl")
    assert [(document.source, len(document.text)) for document in found] == [
        ("a.jsonl, line 1", 1_000_000),
        ("a.jsonl, line 1, byte 1000000", 500_000),
    ]


@pytest.mark.parametrize("row_group_size", [7, 1000])
def test_parquet_with_finewebs_columns(tmp_path, row_group_size):  # SPEC E8 S1
    path = tmp_path / "part.parquet"
    pq.write_table(fineweb_table(50), path, row_group_size=row_group_size)
    found, reported = read(path)
    assert reported == []
    assert found == [
        Document(f"Page {row}, with a ü.", f"{path}, row {row + 1}") for row in range(50)
    ]


def test_rows_without_text_and_with_bad_bytes_are_reported(tmp_path):
    # A column of bytes that claims to be one of strings.
    data = pa.array([b"fine", b"bad \xff", None, b""], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 4, data.buffers())
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    found, reported = read(tmp_path)
    assert [document.text for document in found] == ["fine"]
    source = f"{tmp_path}/a.parquet, row"
    assert reported == [
        Dropped(f"{source} 2", "not UTF-8", "byte 4"),
        Dropped(f"{source} 3", "empty"),
        Dropped(f"{source} 4", "empty"),
    ]


BAD_TABLES = {
    "no text": (pa.table({"txt": ["x"], "id": ["1"]}), '0 columns "text"; columns: txt, id'),
    "numbers": (pa.table({"text": [1, 2]}), "holds int64, not strings"),
    "lists": (pa.table({"text": [["x"]]}), "not strings"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_parquet_file_without_text_says_what_is_there(tmp_path, name):
    table, expected = BAD_TABLES[name]
    pq.write_table(table, tmp_path / "a.parquet")
    with open(tmp_path / "a.parquet", "rb") as file, pytest.raises(LessonsError) as caught:
        list(read_parquet(file, "a.parquet", print))
    assert expected in caught.value.what
    assert caught.value.where == "a.parquet"


def test_damaged_parquet_files_are_reported_and_the_others_read(tmp_path):  # SPEC S1 S9
    for name in ("a", "b", "d", "e"):
        pq.write_table(fineweb_table(2000), tmp_path / f"{name}.parquet", row_group_size=500)
    pq.write_table(pa.table({"other": [1]}), tmp_path / "c.parquet")  # another schema
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "d.parquet").write_bytes(b"")
    middle = bytearray(whole)
    middle[len(whole) // 8 : len(whole) // 2] = b"\xa5" * (len(whole) // 2 - len(whole) // 8)
    (tmp_path / "e.parquet").write_bytes(middle)
    found, reported = read(tmp_path)
    assert sum(document.source.startswith(f"{tmp_path}/a") for document in found) == 2000
    assert not any(document.source.startswith(f"{tmp_path}/b") for document in found)
    unreadable = [dropped for dropped in reported if dropped.reason == "unreadable"]
    assert [dropped.source[-9:] for dropped in unreadable] == [
        f"{name}.parquet" for name in ("b", "c", "d", "e")
    ]
    assert "not a whole parquet file" in unreadable[0].detail
    n_rows = sum(document.source.startswith(f"{tmp_path}/e") for document in found)
    bad_rows = [dropped for dropped in reported if ", row " in dropped.source]
    assert f"can't read it beyond row {n_rows + len(bad_rows)}" in unreadable[3].detail


def test_a_row_group_that_is_too_large_is_refused(tmp_path, monkeypatch):  # SPEC S9
    pq.write_table(pa.table({"text": ["x" * 5000]}), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet, "MAX_ROW_GROUP", 100)
    found, (reported,) = read(tmp_path)
    assert found == []
    assert "row group 0 holds" in reported.detail


def test_mutated_files_give_documents_or_reports_and_nothing_else(tmp_path):  # SPEC S9
    chance = random.Random(0)
    pq.write_table(fineweb_table(40), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        read_or_refuse(data[: chance.choice([len(data), chance.randrange(len(data))])])


def read_or_refuse(data):
    reported = []
    with suppress(LessonsError):
        found = list(read_parquet(io.BytesIO(bytes(data)), "a.parquet", reported.append))
        assert len(found) + len(reported) <= 40


def test_without_a_report_the_first_that_is_bad_raises(tmp_path):  # SPEC S9
    (tmp_path / "a.txt").write_text("fine")
    (tmp_path / "b.jsonl").write_text('{"text": "fine"}\n{"text": 7}\n')
    read = read_documents([tmp_path])
    assert [next(read).text, next(read).text] == ["fine", "fine"]
    with pytest.raises(LessonsError, match=r"^no text: .*b\.jsonl, line 2\)\. Mend it"):
        next(read)
