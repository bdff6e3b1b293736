"""A file that is written is whole, or the old one is still there."""

import codecs
import errno
import os

import pytest

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import (
    decode_utf8,
    new_folder,
    read_json,
    replace_file,
    write_json,
)


@pytest.mark.parametrize(
    ("content", "data"),
    [
        ("a\nb\r\né日😀", "a\nb\r\né日😀".encode()),
        ("", b""),
        (b"\x00\xff\r\n", b"\x00\xff\r\n"),
        (b"", b""),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "with spaces and ümlauts.json", ".hidden"])
def test_what_is_written_is_there_byte_for_byte(tmp_path, content, data, name):
    path = tmp_path / name
    for _ in range(2):  # new, and in place of another
        replace_file(path, content)
        assert path.read_bytes() == data
        assert os.listdir(tmp_path) == [name]
        path.write_bytes(b"old" * 100)
    replace_file(path, content)
    assert path.read_bytes() == data


def fail(number):
    """A function that fails as the operating system does."""

    def failing(*arguments, **named):
        raise OSError(number, os.strerror(number))

    return failing


@pytest.mark.parametrize("step", ["replace", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, step, number):  # SPEC S9
    path = tmp_path / "a.json"
    replace_file(path, "old")
    monkeypatch.setattr(os, step, fail(number))
    for content in ("new", b"new"):
        with pytest.raises(LessonsError) as caught:
            replace_file(path, content)
        assert caught.value.what == f"can't write it: {os.strerror(number)}"
        assert caught.value.where == str(path)
        assert caught.value.remedy
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_the_name_has_the_old_content_until_the_new_is_on_the_disk(tmp_path, monkeypatch):
    path, seen, sync = tmp_path / "a.json", [], os.fsync
    replace_file(path, "old")

    def looking(file):
        for unfinished in set(os.listdir(tmp_path)) - {"a.json"}:
            seen.append((path.read_bytes(), (tmp_path / unfinished).read_bytes()))
        sync(file)

    monkeypatch.setattr(os, "fsync", looking)
    replace_file(path, "new")
    assert (b"old", b"new") in seen
    assert path.read_bytes() == b"new"


def test_places_that_can_not_be_written_are_named(tmp_path):  # SPEC S9
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    for path, what in [
        (tmp_path / "absent" / "a.json", "No such file or directory"),
        (tmp_path / "file" / "a.json", "Not a directory"),
        (tmp_path / "folder", "Is a directory"),
        (tmp_path / ("n" * 300), "File name too long"),
        (tmp_path / "nul\0", "embedded null byte"),
    ]:
        with pytest.raises(LessonsError, match=f"can't write it: {what}") as caught:
            replace_file(path, "new")
        assert caught.value.where == str(path)
    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert os.listdir(tmp_path / "folder") == []


def test_text_with_half_a_surrogate_pair_is_refused(tmp_path):  # SPEC S9
    path = tmp_path / "a.json"
    replace_file(path, "old")
    with pytest.raises(LessonsError, match=r"can't write it: .*surrogates not allowed"):
        replace_file(path, "new \udcff")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_file_that_grows_too_large_leaves_what_was_there(tmp_path):  # SPEC S9
    resource = pytest.importorskip("resource", reason="limits are set as on Unix")
    path = tmp_path / "a.bin"
    replace_file(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(LessonsError, match="can't write it: File too large"):
            replace_file(path, b"new" * 1_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def fill(folder, content="new"):
    with new_folder(folder) as unfinished:
        (unfinished / "a.txt").write_text(content)
        assert not (folder / "a.txt").exists()


def everything_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_appears_when_it_is_whole(tmp_path):  # SPEC S1
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "absent", tmp_path / "deep" / "er"):
        fill(folder)
        assert everything_in(folder) == {"a.txt": b"new"}
    assert sorted(os.listdir(tmp_path)) == ["absent", "deep", "empty"]
    assert os.listdir(tmp_path / "deep") == ["er"]


def test_a_folder_with_something_in_it_is_not_touched(tmp_path):  # SPEC S1
    fill(tmp_path / "out", "mine")
    with pytest.raises(LessonsError, match=r"^the folder is not empty: it holds a\.txt \(.*out\)"):
        fill(tmp_path / "out")
    assert everything_in(tmp_path / "out") == {"a.txt": b"mine"}
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(LessonsError, match=r"^can't write here: Not a directory"):
            fill(folder)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_that_fails_leaves_nothing_and_a_killed_one_is_replaced(
    tmp_path, monkeypatch, is_there
):  # SPEC S1
    out = tmp_path / "out"
    if is_there:
        out.mkdir()
    for step in ("fsync", "rename"):
        monkeypatch.setattr(os, step, fail(errno.ENOSPC))
        with pytest.raises(LessonsError, match=r"^can't write here: No space left on device"):
            fill(out)
        monkeypatch.undo()
        assert not any(path.is_file() for path in tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt), new_folder(out):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) in ([], ["out"])
    (tmp_path / ".out.unfinished").mkdir()  # what kill -9 leaves
    (tmp_path / ".out.unfinished" / "a.txt").write_text("half")
    (tmp_path / ".out.unfinished" / "b.txt").write_text("half")
    fill(out)
    assert everything_in(out) == {"a.txt": b"new"}
    assert os.listdir(tmp_path) == ["out"]


def test_json_is_written_whole_and_read_back(tmp_path):
    write_json(tmp_path / "a.json", {"ü": [1, 0.1, None]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{"ü": [1, 0.1, null]}\n'
    assert read_json(tmp_path / "a.json") == {"ü": [1, 0.1, None]}
    with pytest.raises(LessonsError, match="can't write it: Out of range float values"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert read_json(tmp_path / "a.json") == {"ü": [1, 0.1, None]}


def test_text_is_utf8_with_or_without_a_mark():
    assert decode_utf8(codecs.BOM_UTF8 + b"a", "x") == "a"
    assert decode_utf8(codecs.BOM_UTF8 + b"a", "x", start=5) == "\ufeffa"  # no mark, inside a file
    with pytest.raises(LessonsError, match=r"^not UTF-8: byte 4 \(x\)\. Save it as UTF-8\.$"):
        decode_utf8(codecs.BOM_UTF8 + b"a\xff", "x")
    with pytest.raises(LessonsError, match=r"^not UTF-8: byte 9 "):
        decode_utf8(b"abc\xff", "x", start=6)


@pytest.mark.parametrize("encoding", ["UTF-16-LE", "UTF-16-BE", "UTF-32-LE", "UTF-32-BE"])
def test_other_encodings_are_named(encoding):
    with pytest.raises(LessonsError, match=rf"^it is {encoding[:6]}, not UTF-8 \(x\)\. Save it"):
        decode_utf8("\ufeffone".encode(encoding), "x")
