"""What a model writes while it is trained: samples for display, which never end a run."""

from functools import partial
from io import StringIO
from types import SimpleNamespace

import torch
from rich.console import Console

from transformer_lessons.cli import train, training_run
from transformer_lessons.cli.display import TrainingDisplay
from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import random_windows
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import known_tokens
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.trainer import StepReport, Trainer


def run(tmp_path, change):
    """A run of 3 steps; the model has 64 ids more than its tokenizer, and `change` spoils it."""
    torch.manual_seed(0)
    model = Decoder(ModelConfig(320, 8, d_model=8, n_layers=1, n_heads=2, d_ff=8))
    with torch.no_grad():
        change(model)
    config = TrainConfig(steps=3)
    source = SimpleNamespace(
        tokenizer=BPETokenizer.train("", 256), prompt=[97], unigram_loss=None, held_out=None
    )
    (tmp_path / "log.jsonl").write_text("")
    known = known_tokens(source.tokenizer, 320)
    trainer = Trainer(model, config, random_windows(torch.arange(200), 8, 2))
    sample = partial(train.write_sample, model, source, known)
    training_run.fit(trainer, source, tmp_path, sample, Console(file=StringIO()))
    return trainer


def test_ids_without_a_token_do_not_end_a_run(tmp_path, capsys):
    def like_the_unknown(model):
        model.head.bias[256:] = 10.0

    assert run(tmp_path, like_the_unknown).n_steps == 3
    said = capsys.readouterr().out
    assert said.count("a -> ") == 3
    assert "no sample" not in said


def test_a_sample_that_fails_is_told_and_the_run_goes_on(tmp_path, capsys, monkeypatch):
    def broken(*arguments, **named):
        raise LessonsError("the scores are not all finite")
        yield

    monkeypatch.setattr(train, "stream", broken)
    assert run(tmp_path, lambda model: None).n_steps == 3
    assert capsys.readouterr().out.count("no sample: the scores are not all finite") == 3


def test_steps_that_were_left_out_are_said(capsys):
    display = TrainingDisplay(Console(file=StringIO()), 3, lambda: "", {})
    for step, skipped in enumerate((False, True, True), start=1):
        display(StepReport(step, 1.0, 0.1, 1.0, 8, 0.5, skipped=skipped))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("tokens/s")[2].strip() for line in lines] == [
        "",
        ", steps left out: 1 (fp16)",
        ", steps left out: 2 (fp16)",
    ]
