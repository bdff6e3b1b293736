"""A disk that is full, and one that can't be written: the old newest checkpoint still loads."""

import subprocess
from contextlib import suppress

import pytest
import torch

from transformer_lessons.cli.run_folder import begin_run, locked_folder, resume_run, save_run
from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.training.checkpoint import load_checkpoint, save_checkpoint
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.trainer import Trainer

MODEL = ModelConfig(256, 16, d_model=64, n_layers=1, n_heads=1, d_ff=64)  # 0.24 MB


def make_trainer():
    torch.manual_seed(0)
    batch = torch.arange(16)[None], torch.arange(1, 17)[None]
    return Trainer(Decoder(MODEL), TrainConfig(steps=4), iter([batch] * 4))


def fill(folder, left):
    """Leave `left` bytes on the disk of `folder`, and return the file that takes the others."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    with ballast.open("r+b") as file:
        file.truncate(max(ballast.stat().st_size - left, 0))
    return ballast


@pytest.mark.parametrize("left", [0, 4096, 100_000, 400_000, 700_000])
def test_a_full_disk_leaves_the_old_checkpoint(mounted, left):  # SPEC E9
    """The disk is full at the folder, in the model, and in the state of the training."""
    folder = mounted("size=3m")
    begin_run(folder, {}, ByteTokenizer())
    trainer = make_trainer()
    trainer.step(iter(trainer.batches))
    save_run(folder, trainer)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    ballast = fill(folder, left)
    trainer.step(iter(trainer.batches))
    with pytest.raises(LessonsError, match=r"^can't save the checkpoint: .*Free space or choose"):
        save_run(folder, trainer)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["ballast", "config.json", "log.jsonl", "step-00000001", "tokenizer.json"]
    loaded = load_checkpoint(folder)
    assert loaded.step == 1
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, before[name])
    ballast.unlink()  # with room again, the same trainer saves
    assert load_checkpoint(save_run(folder, trainer)).step == 2


def test_a_disk_too_full_for_a_config_is_said(mounted):
    folder = mounted("size=1m")
    fill(folder, 0)
    with pytest.raises(LessonsError, match=r"^can't write it: No space left on device.*config\."):
        begin_run(folder, {"model": "x" * 10_000}, ByteTokenizer())
    assert [path.name for path in folder.iterdir()] == ["ballast"]


def test_a_folder_that_cannot_be_written_is_said_and_still_read(mounted):  # SPEC E9
    folder = mounted("size=3m")
    begin_run(folder, {}, ByteTokenizer())
    save_checkpoint(folder, 1, Decoder(MODEL))
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    with pytest.raises(LessonsError, match=r"^can't save the checkpoint: .*[Rr]ead-only"):
        save_checkpoint(folder, 2, Decoder(MODEL))
    with (
        pytest.raises(LessonsError, match=r"^can't make a run folder: Read-only file system"),
        locked_folder(folder),
    ):
        pass
    assert load_checkpoint(folder).step == 1
    with pytest.raises(LessonsError, match="has only the model in it"):
        resume_run(folder, make_trainer())
