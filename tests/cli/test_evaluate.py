"""`evaluate` and `inspect`: models of every kind, side by side."""

import math
import re

import pytest
import torch

from transformer_lessons.cli.documents import read_source, split_documents
from transformer_lessons.config import ModelConfig
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.training.checkpoint import save_checkpoint
from transformer_lessons.weights.save_pretrained import save_pretrained

TEXT = "so it goes, and so it went, " * 40


@pytest.fixture
def folder(tmp_path):
    """The same model as a checkpoint and as a Hugging Face folder, one of bytes, and a text."""
    tokenizer = BPETokenizer.train(TEXT, 300, special_tokens=["<|endoftext|>"])
    torch.manual_seed(0)
    config = ModelConfig(
        tokenizer.n_vocab, 32, 16, 1, 2, 24, norm="rms", ffn="swiglu", bias=False,
        head_bias=False, tie_embeddings=True,
    )  # fmt: skip
    model = Decoder(config)
    save_checkpoint(tmp_path / "ours", 7, model)
    tokenizer.save(tmp_path / "ours" / "tokenizer.json")
    save_pretrained(model, tokenizer, tmp_path / "theirs")
    save_checkpoint(tmp_path / "bytes", 7, Decoder(ModelConfig(256, 32, 16, 1, 2, 24)))
    ByteTokenizer().save(tmp_path / "bytes" / "tokenizer.json")
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def rows_of(shown):
    lines = [line.split() for line in shown.splitlines() if re.search(r"\d\.\d", line)]
    return {line[0]: [float(value.replace(",", "")) for value in line[1:5]] for line in lines}


def test_runs_and_published_models_are_compared_in_one_table(folder, run_here):  # SPEC E5 G5
    names = ("ours", "theirs", "bytes", "python-small")
    done = run_here("evaluate", *names, "--text", "text.txt", cwd=folder)
    assert done.returncode == 0, done.stderr
    rows = rows_of(done.stdout)
    assert list(rows) == list(names)
    assert rows["ours"] == rows["theirs"]
    for n_parameters, loss, perplexity, bits in rows.values():
        assert n_parameters > 1000
        assert perplexity == pytest.approx(math.exp(loss), rel=1e-3)
        assert bits > 0
    assert rows["bytes"][3] == pytest.approx(rows["bytes"][1] / math.log(2), rel=1e-3)
    assert f"on {len(TEXT):,} bytes" in done.stdout


def test_the_documentation_judges_by_what_training_holds_out(folder, run_here):  # SPEC E5
    done = run_here("evaluate", "bytes", "--corpus", cwd=folder)
    held_out = [text for split, text in split_documents(read_source(None)) if split == "validation"]
    assert f"on {sum(len(text.encode()) for text in held_out):,} bytes" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "give at least one run folder"),
        (("bytes",), "give either --text FILE or --corpus"),
        (("nowhere", "--corpus"), "no checkpoint here"),
        (("bytes", "--text", "none.txt"), "no such file or folder (none.txt)"),
        (("bytes", "--corpus", "--best"), "no best checkpoint here"),
        (("bytes", "--corpus", "--device", "tpu"), "no device 'tpu'"),
    ],
)
def test_bad_input_ends_with_one_line(folder, run_here, arguments, expected):  # SPEC S9
    done = run_here("evaluate", *arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr


def test_inspect_shows_published_models_too(folder, run_here):
    shown = {name: run_here("inspect", name, cwd=folder).stdout for name in ("ours", "theirs")}
    assert shown["ours"].replace(", after 7 steps", "") == shown["theirs"]
    assert "vocab_size" in shown["ours"]
    assert "32 × 48" not in shown["ours"]
    assert re.search(r"embed\S*\s+272 × 16", shown["ours"])
