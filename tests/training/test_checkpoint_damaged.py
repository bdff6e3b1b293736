"""A checkpoint that is damaged, or not one, is refused by name; no code in it is ever run."""

import hashlib
import json
import os
import pickle
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.support.checkpoint_files import contents_sha256
from transformer_lessons.training.checkpoint import load_checkpoint, save_checkpoint

FLUCTLIGHT = preset("fluctlight").to_dict()


@pytest.fixture
def saved(tmp_path):
    """A run folder with one checkpoint, step 5."""
    return save_checkpoint(tmp_path, 5, Decoder(preset("fluctlight")), {"t": torch.zeros(2)})


def change_tensors(saved, change):
    tensors = load_file(saved / "model.safetensors")
    change(tensors)
    save_file(tensors, saved / "model.safetensors")
    vouch_for(saved)


def change_json(saved, **changes):
    """Change `checkpoint.json`, and make its own checksum right again."""
    path = saved / "checkpoint.json"
    about = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    with suppress(RecursionError):  # so deep that it has no checksum
        about["sha256"] = contents_sha256(about)
    path.write_text(json.dumps(about), encoding="utf-8")


def vouch_for(saved):
    """Make sizes and checksums right again, as someone who means harm would."""
    facts = {}
    for path in saved.glob("*.safetensors"):
        data = path.read_bytes()
        facts[path.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change_json(saved, files=facts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("blocks.1.attention.out.bias"),
            "'blocks.1.attention.out.bias' is missing",
        ),
        (lambda t: t.update(extra=torch.zeros(1)), "'extra' is not part of this model"),
        (
            lambda t: t.update({"head.weight": torch.zeros(4, 256)}),
            r"'head.weight' is \(4, 256\), not \(256, 4\)",
        ),
        (
            lambda t: t.update({"head.bias": torch.zeros(1)}),
            r"'head.bias' is \(1,\), not \(256,\)",
        ),
        (
            lambda t: t.update({"head.bias": torch.zeros(256, dtype=torch.int32)}),
            "'head.bias' is torch.int32, no fractions",
        ),
        (
            lambda t: t.update({"head.bias": torch.zeros(256, dtype=torch.complex64)}),
            "'head.bias' is torch.complex64, no fractions",
        ),
    ],
)
def test_tensors_must_fit_exactly(saved, change, message):
    change_tensors(saved, change)
    with pytest.raises(LessonsError, match=rf"^tensor {message} \(.*model\.safetensors\)"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "has the keys files, format, model, sha256, step, training"),
        ({"step": None}, "step = None is not a step number"),
        ({"step": -1}, "step = -1 is not a step number"),
        ({"step": True}, "step = True is not a step number"),
        ({"step": 1e3}, "step = 1000.0 is not a step number"),
        ({"format": 1}, "of format 1; this version reads format 4"),
        ({"format": None}, "of format None; this"),
        (
            {"format": 2, "extra": 1},
            "of format 2; this version",
        ),  # said first: it explains the keys
        ({"training": 5}, "training is neither null nor a JSON object"),
        ({"training": {"a": {"tensor": "training.u"}}}, "tensor 'training.u' is missing"),
        ({"training": {"a": {"tensor": ["x"]}}}, r"tensor \['x'\] is missing"),
        ({"training": None}, r"files doesn't name model\.safetensors$|model\.safetensors \("),
        ({"files": {}}, "files doesn't name model"),
        ({"files": []}, "files doesn't name model"),
        ({"files": {"../model.safetensors": {}, "x": 1}}, "files doesn't name model"),
        ({"files": {"model.safetensors": 1, "training.safetensors": {}}}, "not the one that was"),
        ({"model": []}, "must be a JSON object"),
        ({"model": {"d_model": 4}}, "missing 5 required"),
        ({"model": {**FLUCTLIGHT, "d_model": 0}}, "d_model = 0 is not"),
        ({"model": {**FLUCTLIGHT, "layers": 2}}, "unknown key 'layers'"),
        # What would take hours, or all memory, to build.
        ({"model": {**FLUCTLIGHT, "n_layers": 10**9}}, "more parameters than the file can"),
        ({"model": {**FLUCTLIGHT, "n_layers": 10**4000}}, "more parameters than the file can"),
        ({"model": {**FLUCTLIGHT, "d_model": 10**4000}}, "more parameters than the file can"),
        ({"model": {**FLUCTLIGHT, "d_ff": 10**12}}, "more parameters than the file can"),
        ({"model": {**FLUCTLIGHT, "vocab_size": 2**62}}, "more parameters than the file can"),
        ({"model": {**FLUCTLIGHT, "position": "learned", "context_length": 2**40}}, "can hold"),
    ],
)
def test_the_json_must_fit_exactly(saved, change, message):  # SPEC S9
    change_json(saved, **change)
    with pytest.raises(LessonsError, match=message):
        load_checkpoint(saved)


@pytest.mark.parametrize("key", ["format", "step", "model", "training", "files", "sha256"])
def test_a_missing_key_is_refused(saved, key):
    path = saved / "checkpoint.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    del about[key]
    path.write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(LessonsError, match=r"has the keys .*checkpoint\.json"):
        load_checkpoint(saved)


@pytest.mark.parametrize("depth", [100, 600, 980, 10_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused(saved, depth, opening, closing):  # SPEC S9
    text = (saved / "checkpoint.json").read_text(encoding="utf-8")
    nest = opening * depth + "1" + closing * depth
    start, end = text.index('"training"'), text.index('"files"')
    text = f'{text[:start]}"training": {{"a": {nest}}}, {text[end:]}'
    (saved / "checkpoint.json").write_text(text, encoding="utf-8")
    with suppress(RecursionError):
        change_json(saved)
    if depth == 100:
        assert set(load_checkpoint(saved).training) == {"a"}  # strange, but it does no harm
        return
    with pytest.raises(LessonsError, match=r"checkpoint\.json"):
        load_checkpoint(saved)


def test_a_huge_json_file_is_not_read(saved):  # SPEC S9
    with (saved / "checkpoint.json").open("r+b") as file:
        file.truncate(2**40)  # a hole: it takes no room on the disk
    with pytest.raises(LessonsError, match=r"^a checkpoint\.json of over 16,777,216 bytes"):
        load_checkpoint(saved)


@pytest.mark.parametrize("content", [b"", b"\x08", b"[]", b"{", b"\xff\xfe"])
def test_a_broken_json_file_is_named(saved, content):
    (saved / "checkpoint.json").write_bytes(content)
    with pytest.raises(LessonsError, match=r"checkpoint\.json"):
        load_checkpoint(saved)


NAMES = ["model.safetensors", "training.safetensors"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_file_is_named(saved, name, share):  # SPEC S9 E9
    path = saved / name
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(LessonsError, match=rf"^the file is not the one.*{name}\)\. Use an older"):
        load_checkpoint(saved)
    vouch_for(saved)
    with pytest.raises(LessonsError, match=rf"{name}"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", NAMES)
def test_one_flipped_bit_is_found(saved, name):  # SPEC E9
    data = bytearray((saved / name).read_bytes())
    data[-1] ^= 1  # in the last number: the file is as readable as before
    (saved / name).write_bytes(data)
    with pytest.raises(LessonsError, match=rf"^the file is not the one that was saved.*{name}"):
        load_checkpoint(saved)
    vouch_for(saved)
    assert load_checkpoint(saved).step == 5


def test_one_changed_character_of_the_json_is_found(saved):  # SPEC E9
    """Every digit, also of a number that nothing else would contradict, and every letter."""
    path = saved / "checkpoint.json"
    text = path.read_text(encoding="utf-8")
    for place, character in enumerate(text):
        if character.isalnum():
            other = chr(ord(character) ^ 1)  # 4 and 5, b and c: one bit
            path.write_text(f"{text[:place]}{other}{text[place + 1 :]}", encoding="utf-8")
            with pytest.raises(LessonsError, match=r"checkpoint\.json"):
                load_checkpoint(saved)
    path.write_text(text.replace('"step": 5', '"step": 4'), encoding="utf-8")
    with pytest.raises(LessonsError, match=r"^changed since it was saved: checksum"):
        load_checkpoint(saved)
    path.write_text(json.dumps(json.loads(text), sort_keys=True), encoding="utf-8")
    assert load_checkpoint(saved).step == 5  # the same contents in another layout


def test_files_of_another_checkpoint_are_found(saved):  # SPEC E9
    torch.manual_seed(1)
    other = save_checkpoint(saved.parent, 6, Decoder(preset("fluctlight")))
    os.replace(other / "model.safetensors", saved / "model.safetensors")
    with pytest.raises(LessonsError, match=r"^the file is not the one that was saved.*model\."):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(LessonsError, match=rf"^the file is not the one that was saved.*{name}"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", NAMES)
def test_an_oversized_file_is_not_read(saved, name):  # SPEC S9
    with (saved / name).open("r+b") as file:
        file.truncate(2**40)  # hashing so much would take an hour
    with pytest.raises(LessonsError, match=rf"^the file is not the one that was saved.*{name}"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", [*NAMES, "checkpoint.json"])
@pytest.mark.parametrize("facts", [None, {"bytes": 0}, {"bytes": None, "sha256": None}])
def test_what_is_no_file_is_not_opened(saved, name, facts):  # SPEC S9
    """Reading from a pipe, or from /dev/zero, would never end."""
    about = json.loads((saved / "checkpoint.json").read_text(encoding="utf-8"))
    if facts is not None:
        change_json(saved, files=dict.fromkeys(about["files"], facts))
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir):
        path = saved / name
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        with pytest.raises(LessonsError):
            load_checkpoint(saved)


class Touch:
    """Unpickling this creates a file: what a malicious checkpoint would do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_in_place_of_the_tensors_is_refused_and_not_run(saved, tmp_path):  # SPEC S2
    mark = tmp_path / "code-ran"
    (saved / "model.safetensors").write_bytes(pickle.dumps((Touch(mark), bytes(20_000))))
    vouch_for(saved)
    with pytest.raises(LessonsError, match="not a readable safetensors file"):
        load_checkpoint(saved)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Touch(mark)))  # it would have
    assert mark.exists()
