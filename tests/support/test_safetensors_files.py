"""Folders of safetensors files: what doesn't fit together, or leads out of the folder, is named."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import save_file

from transformer_lessons.errors import LessonsError
from transformer_lessons.support import safetensors_files
from transformer_lessons.support.safetensors_files import find_tensors, read_tensor

INDEX = "model.safetensors.index.json"
A, B = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def shards(tmp_path):
    """A folder inside `tmp_path`, with two files and an index."""
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}, folder / A)
    save_file({"c": torch.zeros(5)}, folder / B)
    write_index(folder, {"a": A, "b": A, "c": B})
    return folder


def write_index(folder, weight_map):
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def refused(folder):
    with pytest.raises(LessonsError) as caught:
        find_tensors(folder)
    return str(caught.value)


def test_tensors_are_found_in_their_files(shards):
    found = find_tensors(shards)
    assert {name: (place.path.name, place.shape) for name, place in found.items()} == {
        **{"a": (A, [2, 3]), "b": (A, [4]), "c": (B, [5])}
    }
    assert read_tensor(found["a"].path, "a").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_single_file_comes_first(shards):
    """As in transformers: then there is no need of an index."""
    save_file({"z": torch.ones(2)}, shards / "model.safetensors")
    assert list(find_tensors(shards)) == ["z"]


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_a_tensor_is_read_in_blocks_of_rows(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_files, "BLOCK", rows * 12)
    tensor = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    save_file({"a": tensor}, tmp_path / "model.safetensors")
    assert torch.equal(read_tensor(tmp_path / "model.safetensors", "a"), tensor)


OUT = ["../secret.safetensors", "/etc/passwd", "sub/../../secret.safetensors", "..", ".", ""]
OUT += ["sub\\..\\x.safetensors", "sub/x.safetensors", "./" + A, "a\0b", "\ud800", "x" * 300]


@pytest.mark.parametrize("name", OUT)
def test_an_index_does_not_lead_out_of_the_folder(name, shards):  # SPEC S9
    save_file({"c": torch.zeros(5)}, shards.parent / "secret.safetensors")
    (shards / "sub").mkdir()
    save_file({"c": torch.zeros(5)}, shards / "sub" / "x.safetensors")
    write_index(shards, {"a": A, "b": A, "c": name})
    message = refused(shards)
    known = ("is not the name of a file in the folder", "there is no file", "can't read")
    assert any(words in message for words in known)


def test_a_link_that_leads_out_of_the_folder_is_not_followed(shards):  # SPEC S9
    save_file({"c": torch.zeros(5)}, shards.parent / "secret.safetensors")
    (shards / B).unlink()
    (shards / B).symlink_to("../secret.safetensors")
    assert "is a link that leads out of the folder" in refused(shards)
    (shards / B).unlink()
    (shards / B).symlink_to(B)
    assert "there is no file" in refused(shards)
    (shards / INDEX).rename(shards.parent / INDEX)
    (shards / INDEX).symlink_to(f"../{INDEX}")
    assert "is a link that leads out of the folder" in refused(shards)


def test_a_link_inside_the_folder_is_followed(shards):
    (shards / B).rename(shards / "other.safetensors")
    (shards / B).symlink_to("other.safetensors")
    assert sorted(find_tensors(shards)) == ["a", "b", "c"]


def test_the_cache_of_the_hub_is_read_as_it_is(shards, tmp_path):  # SPEC G5
    """Its snapshots are folders of links into one folder of blobs. Other links are refused."""
    model = tmp_path / "models--org--name"
    snapshot, blobs = model / "snapshots" / "0123abc", model / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in (A, B, INDEX):
        (shards / name).rename(blobs / f"hash-of-{name}")
        (snapshot / name).symlink_to(f"../../blobs/hash-of-{name}")
    assert sorted(find_tensors(snapshot)) == ["a", "b", "c"]
    elsewhere = tmp_path / "elsewhere"
    blobs.rename(elsewhere)
    blobs.symlink_to(elsewhere)
    assert "is a link that leads out of the folder" in refused(snapshot)
    blobs.unlink()
    elsewhere.rename(blobs)
    assert sorted(find_tensors(snapshot)) == ["a", "b", "c"]
    (blobs / f"hash-of-{B}").rename(model / "refs")
    (snapshot / B).unlink()
    (snapshot / B).symlink_to("../../refs")
    assert "is a link that leads out of the folder" in refused(snapshot)


def test_a_pipe_is_not_waited_for(shards):  # SPEC S9
    (shards / B).unlink()
    os.mkfifo(shards / B)
    assert f"there is no file '{B}'" in refused(shards)


WRONG_MAPS = {
    "not said": ({"a": A, "c": B}, "tensor 'b' is in"),
    "said elsewhere": ({"a": A, "b": B, "c": B}, "tensor 'b' is in"),
    "not there": ({"a": A, "b": A, "c": B, "d": B}, f"tensor 'd' is not in {B}"),
    "a number": ({"a": 1}, "weight_map is {'a': 1}, not of the type dict[str, str]"),
    "a list": ([A], "not of the type dict[str, str]"),
    "absent": ({"a": A, "b": A, "c": "absent.safetensors"}, "there is no file 'absent"),
}


@pytest.mark.parametrize(("weight_map", "message"), WRONG_MAPS.values(), ids=WRONG_MAPS)
def test_an_index_and_its_files_must_agree(weight_map, message, shards):  # SPEC S9
    write_index(shards, weight_map)
    assert message in refused(shards)


def test_a_large_index_is_not_read(shards, monkeypatch):  # SPEC S9
    monkeypatch.setattr(safetensors_files, "LARGEST_INDEX", 10)
    assert "over 10 bytes" in refused(shards)


def header(entries):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DAMAGED = {
    "empty": b"",
    "short": b"\x02\0\0",
    "text": b"once upon a time, there was no header\n",
    "header beyond the file": struct.pack("<Q", 10**6) + b"{}",
    "header of 2**63": struct.pack("<Q", 2**63) + b"{}",
    "no JSON": struct.pack("<Q", 2) + b"{]",
    "tensor beyond the file": header({"a": ENTRY}) + bytes(4),
    "overlapping": header({"a": ENTRY, "b": ENTRY}) + bytes(8),
    "a gap": header({"a": ENTRY | {"data_offsets": [8, 16]}}) + bytes(16),
    "other shape": header({"a": ENTRY | {"shape": [3]}}) + bytes(8),
    "product overflows": header({"a": ENTRY | {"shape": [2**32, 2**32, 4]}}) + bytes(8),
    "negative": header({"a": ENTRY | {"shape": [-2]}}) + bytes(8),
    "unknown dtype": header({"a": ENTRY | {"dtype": "F33"}}) + bytes(8),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named(data, tmp_path):  # SPEC S9
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    message = refused(tmp_path)
    assert str(path) in message
    assert "Was the download complete?" in message


@pytest.mark.parametrize(
    "tensor", [torch.ones(2, dtype=torch.int64), torch.ones(2).to(torch.float8_e4m3fn)]
)
def test_numbers_of_another_kind_are_refused(tensor, tmp_path):  # SPEC S9
    save_file({"a": tensor}, tmp_path / "model.safetensors")
    with pytest.raises(LessonsError, match=r"has the dtype .*, not one of F64, F32, F16, BF16"):
        read_tensor(tmp_path / "model.safetensors", "a")


def test_a_tensor_without_rows_is_refused(tmp_path):  # SPEC S9
    save_file({"a": torch.tensor(1.0), "b": torch.ones(0, 3)}, tmp_path / "model.safetensors")
    for name in ("a", "b"):
        with pytest.raises(LessonsError, match="has no rows"):
            read_tensor(tmp_path / "model.safetensors", name)
    with pytest.raises(LessonsError, match="not a readable safetensors file"):
        read_tensor(tmp_path / "model.safetensors", "absent")
