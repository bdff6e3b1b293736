"""The one door for data: each source opens, names itself, and can be taken up again."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch

from transformer_lessons.cli.data_source import DataOptions, open_source
from transformer_lessons.config import ModelConfig
from transformer_lessons.data.pairs import write_pairs
from transformer_lessons.data.token_files import tokenize_corpus
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.shards import ShardFolder
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.training.config import TrainConfig

TEXTS = [f"Page {i} of the book, with ü. " + "so it goes " * (i % 7) for i in range(60)]
MODEL = ModelConfig(300, context_length=16, d_model=8, n_layers=1, n_heads=1, d_ff=8)
BYTES = ModelConfig(256, context_length=16, d_model=8, n_layers=1, n_heads=1, d_ff=8)
TRAINING = TrainConfig(batch_size=3)


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Options for each kind of source, with names as a user gives them."""
    monkeypatch.chdir(tmp_path)
    tokenizer = BPETokenizer.train(" ".join(TEXTS), 300, special_tokens=["<|endoftext|>"])
    tokenizer.save("t.json")
    write_pairs("pairs.tsv", [(b"ab", b"abab"), (b"c", b"d")])
    write_pairs("seeds.tsv", [(b"x", b"yz")])
    Path("a.txt").write_text(" ".join(TEXTS))
    Path("a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    tokenize_corpus("a.jsonl", tokenizer, "train.npy")
    tokenize_corpus("a.jsonl", tokenizer, "held.npy")

    class Rows(list):
        def state_dict(self):
            return {}

    list(ShardFolder("shards", "far", lambda: Rows({"text": t} for t in TEXTS)).read(0))
    return {
        "pairs": DataOptions(pairs=Path("pairs.tsv"), seed_pairs=Path("seeds.tsv")),
        "bytes": DataOptions(text=Path("a.txt")),
        "text": DataOptions(text=Path("a.txt"), tokenizer="t.json"),
        "corpus": DataOptions(corpus=True),
        "tokens": DataOptions(
            tokens=Path("train.npy"), held_out=Path("held.npy"), tokenizer="t.json"
        ),
        "shards": DataOptions(shards=Path("shards"), tokenizer="t.json"),
    }


@pytest.mark.parametrize("kind", ["pairs", "bytes", "text", "corpus", "tokens", "shards"])
def test_a_source_opens_and_goes_on_where_its_state_was_taken(sources, kind):  # SPEC E8 F7 S3
    options = sources[kind]
    assert DataOptions.from_dict(json.loads(json.dumps(options.to_dict())), "c.json") == options
    model = MODEL if options.tokenizer else BYTES
    first, second = (open_source(options, model, TRAINING, workers=0) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert first.tokenizer.n_vocab == model.vocab_size
    whole = list(islice(first.batches, 8))
    before, state = [], None
    for n_batches in (3, 5):
        source = open_source(options, model, TRAINING)
        if state:
            source.state.load_state_dict(state)
        batches = iter(source.batches)
        before += [next(batches) for _ in range(n_batches)]
        state = json.loads(json.dumps(source.state.state_dict()))
    for (inputs, targets), again in zip(whole, before, strict=True):
        assert torch.equal(inputs, again[0])
        assert torch.equal(targets, again[1])
    assert (first.held_out is None) == (kind == "pairs")
    assert (first.unigram_loss is None) == (kind in ("pairs", "tokens", "shards"))
    assert all(0 <= token < model.vocab_size for token in first.prompt)


def test_what_is_held_out_is_not_trained_on(sources):  # SPEC A5
    source = open_source(sources["text"], MODEL, TRAINING)
    ids = source.tokenizer.encode_ordinary(" ".join(TEXTS))
    assert source.held_out.tolist() == ids[-(len(ids) // 10) :]
    shards = open_source(sources["shards"], MODEL, TRAINING)
    held_out = set(source.tokenizer.decode(shards.held_out.tolist()).split("<|endoftext|>")) - {""}
    assert held_out < set(TEXTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of --pairs FILE, --text FILE"),
        ({"corpus": True, "text": "a.txt"}, "give one of"),
        ({"corpus": True, "seed_pairs": "seeds.tsv"}, "--seed-pairs goes in front of --pairs"),
        ({"corpus": True, "held_out": "held.npy"}, "--held-out goes with --tokens"),
        ({"pairs": "pairs.tsv", "tokenizer": "t.json"}, "--tokenizer doesn't go with --pairs"),
        ({"shards": "shards"}, "--shards FOLDER needs --tokenizer"),
        ({"tokens": "train.npy", "tokenizer": "t.json"}, "--tokens FILE needs --held-out"),
        ({"text": "none.txt"}, r"can't read it: No such file.*none\.txt"),
        ({"text": "pairs.tsv"}, r"\d+ bytes are too few to train on \(pairs\.tsv\)"),
        ({"shards": ".", "tokenizer": "t.json"}, "not a folder of shards"),
    ],
)
def test_options_that_do_not_fit_are_refused(sources, options, message):  # SPEC S9
    values = DataOptions.from_dict(options, "c.json")
    model = MODEL if values.tokenizer else BYTES
    with pytest.raises(LessonsError, match=message):
        open_source(values, model, TRAINING)


@pytest.mark.parametrize("values", [[], {"txt": "a"}, {"text": 1}, {"corpus": "yes"}])
def test_a_source_in_a_file_that_is_none_is_refused(values):  # SPEC S9
    with pytest.raises(LessonsError, match=r"c\.json"):
        DataOptions.from_dict(values, where="c.json")
