"""The commands `export` and `inspect`: what is written is the model, and what can't be is said."""

import json
import os
import shutil
from functools import partial

import pytest
import torch
from tiktoken.load import load_tiktoken_bpe

from transformer_lessons.cli.model_card import model_card
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import sha256
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.weights.export import export_page_model
from transformer_lessons.weights.gguf_writing import save_gguf
from transformer_lessons.weights.pretrained import load_pretrained
from transformer_lessons.weights.shipped import SHIPPED, load_shipped


@pytest.fixture
def export(run_here, tmp_path):
    return partial(run_here, "export", cwd=tmp_path)


@pytest.fixture(scope="module")
def small_run(run_here, tmp_path_factory):
    """A run of the model with 2,656 parameters, which no GGUF file can say."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "pairs.tsv").write_text("YWI=\tYWJhYg==\n")
    arguments = ["--pairs", "pairs.tsv", "--out", "run", "--training.steps", "2"]
    assert run_here("train", *arguments, cwd=folder).returncode == 0
    return folder / "run"


def test_gguf(export, run_here, tmp_path):
    done = export("python-small", "--to", "gguf", "--out", "a [b] ü.gguf", "--kind", "Q8_0")
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / "a [b] ü.gguf"
    assert f"{path.stat().st_size:,}" in done.stdout
    save_gguf(*load_shipped(), tmp_path / "ours.gguf", "Q8_0")
    assert path.read_bytes() == (tmp_path / "ours.gguf").read_bytes()
    shown = run_here("inspect", path, cwd=tmp_path).stdout
    assert "43 Q8_0, 13 F32" in shown
    assert "4,096 values" in shown
    assert "3,148,224 parameters" in shown


def test_a_hugging_face_folder_with_its_card(export, tmp_path):
    done = export(SHIPPED, "--to", "huggingface", "--out", "folder", "--license", "apache-2.0")
    assert (done.returncode, done.stderr) == (0, "")
    model, _ = load_pretrained(tmp_path / "folder")
    ours, _ = load_shipped()
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), ours.parameters(), strict=True)
    )
    card = (tmp_path / "folder" / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n---\n")
    assert "Not stated" not in card
    again = export("folder", "--to", "gguf", "--out", "a.gguf")  # from one format to another
    assert (again.returncode, again.stderr) == (0, "")
    theirs, tokenizer = load_pretrained(tmp_path / "a.gguf")
    assert tokenizer.special_tokens == {"<|endoftext|>": 4095}
    assert torch.equal(theirs.embedding.weight, ours.embedding.weight.half().float())


def test_a_chat_template_goes_along(export, tmp_path):
    template = "{{ messages[0].content }}<|endoftext|>"
    save_gguf(*load_shipped(), tmp_path / "a.gguf", chat_template=template)
    assert export("a.gguf", "--to", "huggingface", "--out", "b").returncode == 0
    assert (tmp_path / "b" / "chat_template.jinja").read_text() == template
    assert not (tmp_path / "b" / "README.md").exists()  # no run, so nothing to write a card from
    assert export("b", "--to", "gguf", "--out", "c.gguf").returncode == 0
    assert (tmp_path / "c.gguf").read_bytes() == (tmp_path / "a.gguf").read_bytes()


def test_tiktoken_and_json(export, tmp_path, small_run):
    assert export("python-small", "--to", "tiktoken", "--out", "ranks").returncode == 0
    tokenizer = load_shipped()[1]
    expected = {token: id for token, id in tokenizer.ids.items() if id != 4095}
    assert load_tiktoken_bpe(str(tmp_path / "ranks")) == expected
    assert export(small_run, "--to", "json", "--out", "model.json").returncode == 0
    document = json.loads((tmp_path / "model.json").read_text())
    numbers = torch.tensor(document["weights"]["embedding.weight"]["data"])
    ours = load_checkpoint(small_run).model
    assert torch.equal(numbers.view(256, 4), ours.embedding.weight)


def test_the_file_of_the_page(export, tmp_path):
    assert export("python-small", "--to", "page", "--out", "page.json").returncode == 0
    export_page_model(*load_shipped(), tmp_path / "ours.json")
    assert (tmp_path / "page.json").read_bytes() == (tmp_path / "ours.json").read_bytes()


def test_the_card_says_what_the_run_was(run_here, tmp_path):
    card = run_here("inspect", "python-small", "--card", cwd=tmp_path).stdout
    assert card.strip() == model_card(SHIPPED).strip()
    manifest = json.loads((SHIPPED / "manifest.json").read_text())
    checkpoint = SHIPPED / "step-00010000" / "model.safetensors"
    for fact in (
        "| parameters | 3,148,224 |",
        f"| model.safetensors | {sha256(checkpoint)} |",
        f"| train.jsonl | SHA-256 {manifest['data']['train.jsonl']['sha256']} |",
        "| bits per byte on test text, gzip -9 | 1.9656 |",
        f"| tokens seen | {manifest['tokens_seen']:,} |",
        "| loss on held-out text, step 10000 | 2.3880 |",
        "| learning_rate | 0.006 |",
        "| trained on | train.jsonl 6 times, and once modules of IPython 9.18.1, PIL 13.0.0, ",
        "license: unknown",
        "**Not stated.** Whoever publishes the model has to answer two questions first.",
    ):
        assert fact in card
    [line] = [line for line in card.splitlines() if line.startswith("| trained on |")]
    for name, facts in manifest["text"]["packages"].items():
        assert f" {name} {facts['version']}" in line
    assert line.endswith(" Their licences are not recorded. |")


def test_the_card_of_a_run_without_a_manifest(tmp_path):
    run = tmp_path / "my run"
    shutil.copytree(SHIPPED, run)
    (run / "manifest.json").unlink()
    lines = (run / "log.jsonl").read_text().splitlines()
    n_tokens = sum(json.loads(line)["n_targets"] for line in lines)
    assert f"| tokens seen | {n_tokens:,} |" in model_card(run)
    assert "trained on" not in model_card(run)
    assert model_card(run / "step-00010000") == model_card(run)
    for line in ("{", "[]", "7", '{"step": 1}'):
        (run / "log.jsonl").write_text(f"{line}\n")
        with pytest.raises(LessonsError, match=r"can't read it: .*log\.jsonl"):
            model_card(run)
    with pytest.raises(LessonsError, match="not a run folder"):
        model_card(tmp_path)


REFUSED = {
    "an unknown format": (["--to", "pickle"], "to = 'pickle' is not one of gguf, onnx"),
    "an unknown kind": (["--to", "gguf", "--kind", "Q2_K"], "'Q2_K' is not one of F32"),
    "a kind of JSON": (["--to", "json", "--kind", "F16"], "it is for gguf (--kind)"),
    "a licence of ONNX": (
        ["--to", "onnx", "--license", "mit"],
        "it is for huggingface (--license)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(export, tmp_path, name):
    arguments, what = REFUSED[name]
    done = export("python-small", *arguments, "--out", "a")
    assert done.returncode == 2
    assert what in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", ["gguf", "huggingface"])
def test_what_is_there_stays(export, tmp_path, to):  # SPEC S9
    (tmp_path / "a").write_text("mine")
    done = export("python-small", "--to", to, "--out", "a")
    assert done.returncode == 2
    assert "it exists already (a). Choose another --out, or remove it." in done.stderr
    assert (tmp_path / "a").read_text() == "mine"


@pytest.mark.parametrize("to", ["gguf", "json", "tiktoken", "huggingface"])
def test_a_full_disk_leaves_nothing(export, tmp_path, small_run, monkeypatch, to):  # SPEC E9
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(os, "rename", full)
    model = small_run if to == "json" else "python-small"
    done = export(model, "--to", to, "--out", "a")
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_the_format_cannot_say(export, small_run, tmp_path):
    done = export(small_run, "--to", "gguf", "--out", "a.gguf")
    assert done.returncode == 2
    assert "(ModelConfig." in done.stderr
    assert list(tmp_path.iterdir()) == []
