"""Checkpoints: exact, and complete or absent."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.training import checkpoint
from transformer_lessons.training.checkpoint import (
    checkpoints,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)

EVERY_OPTION = ModelConfig(
    9,
    4,
    d_model=6,
    n_layers=3,
    n_heads=3,
    d_ff=2,
    n_kv_heads=1,
    head_dim=4,
    rope_scaling=RopeScaling("llama3", factor=4.0, original_context_length=2),
    norm="rms",
    ffn="swiglu",
    bias=False,
    head_bias=False,
    qk_norm=True,
    tie_embeddings=True,
    sliding_window=3,
)


def make_model(seed=0, config=None):
    torch.manual_seed(seed)
    return Decoder(config or preset("fluctlight"))


def assert_same(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.fixture
def saved(tmp_path):
    """A run folder with one checkpoint, step 5."""
    return save_checkpoint(tmp_path, 5, make_model())


@pytest.mark.parametrize(
    "config",
    [
        preset("fluctlight"),
        ModelConfig(9, 4, d_model=6, n_layers=3, n_heads=3, d_ff=2, rope_v_scale=0.5, dropout=0.2),
        EVERY_OPTION,
    ],
)
def test_what_is_saved_is_loaded_bit_for_bit(tmp_path, config):  # SPEC E9
    model = make_model(seed=1, config=config)
    path = save_checkpoint(tmp_path / "new" / "run", 7, model)
    assert path == tmp_path / "new" / "run" / "step-00000007"
    loaded = load_checkpoint(path)
    assert loaded.step == 7
    assert loaded.model.config == config
    assert_same(loaded.model, model)


def test_a_shared_tensor_is_saved_once_and_shared_again(tmp_path):  # SPEC E2, E9
    path = save_checkpoint(tmp_path, 1, make_model(config=EVERY_OPTION))
    assert "head.weight" not in load_file(path / "model.safetensors")
    model = load_checkpoint(path).model
    assert model.head.weight is model.embedding.weight


@dataclass(frozen=True)
class Sizes:
    """The config of a model that is not of this package."""

    width: int = 4
    names: tuple[str, ...] = ("a", "b")
    dtype: object = None


class OwnModel(nn.Module):
    """A model of a reader: two layers with one matrix, a mask, and a table made anew each time."""

    def __init__(self, config):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("mask", torch.ones(4, 4, dtype=torch.bool).tril())
        self.register_buffer("table", torch.arange(4.0), persistent=False)
        self.config = config


def test_any_module_with_a_config_is_saved(tmp_path):
    model = OwnModel(Sizes())
    path = save_checkpoint(tmp_path, 3, model)
    tensors = load_file(path / "model.safetensors")
    assert sorted(tensors) == ["first.bias", "first.weight", "mask", "second.bias"]
    assert all(torch.equal(model.state_dict()[name], tensors[name]) for name in tensors)
    about = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
    assert about["model"] == {"width": 4, "names": ["a", "b"], "dtype": None}
    with pytest.raises(LessonsError, match="unknown key 'width'"):  # a Decoder it is not
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, r"^this model has no config \(OwnModel\)\. Give the model an attribute `config`"),
        ({"width": 4}, r"^this model has no config"),
        (Sizes(dtype=torch.float32), r"^can't save the checkpoint: .*dtype is not JSON"),
    ],
)
def test_a_module_without_a_config_leaves_nothing_behind(tmp_path, config, message):
    with pytest.raises(LessonsError, match=message):
        save_checkpoint(tmp_path, 3, OwnModel(config))
    assert not any(tmp_path.iterdir())


def test_no_checkpoint_is_removed_by_saving_others(tmp_path):
    for step in range(6):
        save_checkpoint(tmp_path, step, make_model())
    assert sorted(checkpoints(tmp_path)) == list(range(6))


def test_tensors_that_are_not_contiguous_are_saved_too(tmp_path):  # SPEC E9
    model = make_model()
    model.head.weight.data = torch.randn(4, 256).T
    assert not model.head.weight.is_contiguous()
    assert_same(load_checkpoint(save_checkpoint(tmp_path, 1, model)).model, model)


def test_special_numbers_survive(tmp_path):
    model = make_model()
    model.head.bias.data[:4] = torch.tensor([float("inf"), -0.0, 1e-45, 3.4e38])
    bias = load_checkpoint(save_checkpoint(tmp_path, 1, model)).model.head.bias
    assert bias[:4].tolist() == model.head.bias[:4].tolist()
    assert bool(bias[1].signbit())


def test_the_files_are_json_and_safetensors(saved):  # SPEC S2
    assert sorted(path.name for path in saved.iterdir()) == ["checkpoint.json", "model.safetensors"]
    about = json.loads((saved / "checkpoint.json").read_text(encoding="utf-8"))
    data = (saved / "model.safetensors").read_bytes()
    own = about.pop("sha256")
    said = json.dumps(about, sort_keys=True).encode()
    assert own == hashlib.sha256(said).hexdigest()
    assert about == {
        **{"format": 4, "step": 5, "model": preset("fluctlight").to_dict(), "training": None},
        "files": {
            "model.safetensors": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        },
    }
    assert load_file(saved / "model.safetensors").keys() == make_model().state_dict().keys()


def test_a_run_folder_means_its_latest_checkpoint(tmp_path):
    for step in (3, 20, 100):
        save_checkpoint(tmp_path, step, make_model(seed=step))
    loaded = load_checkpoint(tmp_path)
    assert loaded.step == 100
    assert_same(loaded.model, make_model(seed=100))


def test_latest_is_by_number_and_other_files_are_passed_over(tmp_path):
    names = ["step-00000009", "step-99999999", "step-100000000", "step-notes", "stepping-stone"]
    for name in [*names, ".unfinished-999999999"]:
        (tmp_path / name).mkdir()
    assert latest_checkpoint(tmp_path) == tmp_path / "step-100000000"
    found = {9: names[0], 99_999_999: names[1], 100_000_000: names[2]}
    assert checkpoints(tmp_path) == {step: tmp_path / name for step, name in found.items()}


@pytest.mark.parametrize("name", ["", "absent", "file.txt"])
def test_no_checkpoint_is_said(tmp_path, name):
    (tmp_path / "file.txt").write_text("x", encoding="utf-8")
    for look in (latest_checkpoint, load_checkpoint):
        with pytest.raises(LessonsError) as caught:
            look(tmp_path / name)
        assert caught.value.what == "no checkpoint here"
        assert caught.value.where == str(tmp_path / name)


def test_the_state_of_a_training_comes_back_as_it_was(tmp_path):  # SPEC E9 A7
    state = {
        "optimizers": [{"0": {"step": torch.tensor(3.0), "exp_avg": torch.randn(2, 3).T}}],
        "random": {"torch": torch.get_rng_state(), "python": [3, [1, 2**32 - 1], None]},
        "best": [0.1, 40, 2],
        "empty": {"tensor": torch.zeros(0), "list": []},
    }
    path = save_checkpoint(tmp_path, 7, make_model(), state)
    names = sorted(file.name for file in path.iterdir())
    assert names == ["checkpoint.json", "model.safetensors", "training.safetensors"]
    loaded = load_checkpoint(path).training
    assert str(loaded) == str(state)  # the same numbers, to the last digit that is shown
    average = loaded["optimizers"][0]["0"]["exp_avg"]
    assert torch.equal(average, state["optimizers"][0]["0"]["exp_avg"])
    assert loaded["random"]["torch"].dtype == torch.uint8


def test_loading_draws_no_random_number(saved):  # SPEC E9
    before = torch.get_rng_state()
    load_checkpoint(saved)
    assert torch.equal(torch.get_rng_state(), before)


# Complete and on the disk, or not there


def watch(monkeypatch, fail_at=None):
    """The system calls that make a save safe, in their order; the one numbered `fail_at` fails."""
    calls = []
    real_fsync, real_replace = os.fsync, os.replace

    def note(call):
        calls.append(call)
        if len(calls) - 1 == fail_at:
            raise OSError(28, "No space left on device")

    def fsync(handle):
        note(("fsync", Path(os.readlink(f"/proc/self/fd/{handle}")).name))
        real_fsync(handle)

    def replace(source, target):
        note(("replace", Path(source).name, Path(target).name))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return calls


def test_all_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):  # SPEC E9
    calls = watch(monkeypatch)
    save_checkpoint(tmp_path / "run", 6, make_model(), {"random": torch.zeros(3)})
    unfinished = ".unfinished-00000006"
    assert sorted(calls[:2]) == [("fsync", "model.safetensors"), ("fsync", "training.safetensors")]
    assert calls[2:] == [
        ("fsync", "checkpoint.json"),
        ("fsync", unfinished),  # the names in it
        ("replace", unfinished, "step-00000006"),
        ("fsync", "run"),  # its own name
    ]


@pytest.mark.parametrize("fail_at", range(5))
def test_a_save_that_fails_anywhere_leaves_the_old_one(saved, monkeypatch, fail_at):  # SPEC E9
    run = saved.parent
    calls = watch(monkeypatch, fail_at)
    with pytest.raises(LessonsError, match=r"^can't save the checkpoint: .*No space left.*Free sp"):
        save_checkpoint(run, 6, make_model(seed=9), {"random": torch.zeros(3)})
    assert len(calls) == fail_at + 1
    assert [path.name for path in run.iterdir()] == ["step-00000005"]
    loaded = load_checkpoint(run)
    assert loaded.step == 5
    assert_same(loaded.model, make_model())


@pytest.mark.parametrize("error", [OSError(28, "disk full"), SafetensorError("disk full")])
@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors"])
def test_a_half_written_file_leaves_the_old_one(saved, monkeypatch, error, name):  # SPEC E9
    run, real = saved.parent, checkpoint.save_file

    def save_half(tensors, path):
        if path.name != name:
            return real(tensors, path)
        path.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", save_half)
    with pytest.raises(LessonsError, match=r"^can't save the checkpoint: .*disk full"):
        save_checkpoint(run, 6, make_model(seed=9), {"random": torch.zeros(3)})
    assert [path.name for path in run.iterdir()] == ["step-00000005"]
    assert_same(load_checkpoint(run).model, make_model())


def test_what_a_killed_save_left_behind_goes_with_the_next(saved):  # SPEC E9
    run = saved.parent
    for step in (4, 6, 7):
        (run / f".unfinished-{step:08d}").mkdir()
        (run / f".unfinished-{step:08d}" / "model.safetensors").write_bytes(b"half of it")
    save_checkpoint(run, 6, make_model(seed=6))
    assert sorted(path.name for path in run.iterdir()) == ["step-00000005", "step-00000006"]
    assert_same(load_checkpoint(run).model, make_model(seed=6))


def test_saving_a_step_that_is_there_is_refused(saved):
    with pytest.raises(LessonsError, match=r"^this checkpoint is there already \(.*step-00000005"):
        save_checkpoint(saved.parent, 5, make_model(seed=9))
    assert_same(load_checkpoint(saved).model, make_model())


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "run").write_text("x", encoding="utf-8")
    with pytest.raises(LessonsError, match=r"can't save the checkpoint: .*run"):
        save_checkpoint(tmp_path / "run", 1, make_model())
