"""The one door for data: each source opens, names itself, and can be taken up again."""

import json
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from transformer_lessons.cli import documents
from transformer_lessons.cli.data_source import DataOptions, open_source
from transformer_lessons.config import ModelConfig, config_from_dict
from transformer_lessons.data.pairs import write_pairs
from transformer_lessons.data.split import split_of
from transformer_lessons.data.token_files import tokenize_corpus
from transformer_lessons.errors import LessonsError
from transformer_lessons.support import shards
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.training.config import TrainConfig

TEXTS = [f"Page {i} of the book, with ü. " + "so it goes " * (i % 7) for i in range(160)]
END = "<|endoftext|>"
MODEL = ModelConfig(300, context_length=16, d_model=8, n_layers=1, n_heads=1, d_ff=8)
BYTES = ModelConfig(256, context_length=16, d_model=8, n_layers=1, n_heads=1, d_ff=8)
TRAINING = TrainConfig(batch_size=3)
KINDS = ["pairs", "bytes", "text", "learned", "folder", "separated", "corpus", "tokens", "stream"]


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Options for each kind of source, with names as a user gives them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shards.open_shards, "__defaults__", (None, None, 20))
    tokenizer = BPETokenizer.train(" ".join(TEXTS), 300, special_tokens=[END])
    tokenizer.save("t.json")
    write_pairs("pairs.tsv", [(b"ab", b"abab"), (b"c", b"d")])
    write_pairs("seeds.tsv", [(b"x", b"yz")])
    Path("a.txt").write_text(" ".join(TEXTS))
    Path("many.txt").write_text(END.join(TEXTS))
    Path("a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    Path("texts").mkdir()
    for number, text in enumerate(TEXTS):
        Path(f"texts/{number}.txt").write_text(text)
    Path("texts/picture.png").write_bytes(b"?")
    pq.write_table(pa.table({"text": TEXTS, "id": TEXTS}), "a.parquet")
    tokenize_corpus("a.jsonl", tokenizer, "train.npy")
    tokenize_corpus("a.jsonl", tokenizer, "held.npy")
    return {
        "pairs": DataOptions(pairs="pairs.tsv", seed_pairs="seeds.tsv"),
        "bytes": DataOptions(text="a.txt"),
        "text": DataOptions(text="a.parquet", tokenizer="t.json"),
        "learned": DataOptions(text="a.jsonl", held_out="a.txt", tokenizer="bpe"),
        "folder": DataOptions(text="texts", tokenizer="t.json"),
        "separated": DataOptions(text="many.txt", separator=END, tokenizer="t.json"),
        "corpus": DataOptions(corpus=True),
        "tokens": DataOptions(text="train.npy", held_out="held.npy", tokenizer="t.json"),
        "stream": DataOptions(from_parquet="a.parquet", tokenizer="t.json"),
    }


def test_every_kind_is_tried(sources):
    assert list(sources) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_opens_and_goes_on_where_its_state_was_taken(sources, kind):  # SPEC E8 F7 S3 G18
    options = sources[kind]
    saved = json.loads(json.dumps(asdict(options)))
    assert config_from_dict(DataOptions, saved, "c.json") == options
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
    assert (first.unigram_loss is None) == (kind in ("pairs", "stream"))
    assert all(0 <= token < model.vocab_size for token in first.prompt)


@pytest.mark.parametrize("kind", ["text", "folder", "separated", "stream"])
def test_a_tenth_of_the_documents_is_held_out_by_their_hash(sources, kind):  # SPEC A5 E8
    source = open_source(sources[kind], MODEL, TRAINING)
    held_out = source.tokenizer.decode(source.held_out.tolist()).split(END)
    expected = [text for text in TEXTS if split_of(text, 0.1, 0.0) == "validation"]
    assert 5 < len(expected) < 40
    assert sorted(held_out) == sorted([*expected, ""])


def test_of_one_text_the_last_tenth_is_held_out(sources):  # SPEC A5
    source = open_source(sources["bytes"], BYTES, TRAINING)
    text = " ".join(TEXTS)
    n_held_out = len(text) // 10
    assert bytes(source.held_out.tolist()).decode() == text[-n_held_out:]


def test_what_judges_is_all_of_another_text_where_one_is_named(sources):  # SPEC A5
    source = open_source(sources["learned"], MODEL, TRAINING)
    assert source.tokenizer.decode(source.held_out.tolist()) == " ".join(TEXTS) + END
    learned = BPETokenizer.train(END.join([*TEXTS, ""]), 300, special_tokens=[END])
    assert source.tokenizer.merges == learned.merges


def test_the_same_text_and_tokenizer_are_encoded_once(sources, monkeypatch):  # SPEC S3
    first = open_source(sources["text"], MODEL, TRAINING)
    monkeypatch.setattr(documents, "tokenize_corpus", None)
    again = open_source(DataOptions(text="a.jsonl", tokenizer="t.json"), MODEL, TRAINING)
    assert again.fingerprint == first.fingerprint
    with pytest.raises(TypeError, match="not callable"):
        open_source(sources["bytes"], BYTES, TRAINING)
    assert [path.name for path in Path("runs/cache").glob(".*")] == []  # nothing is half done


def test_what_is_passed_over_and_what_is_strange_is_told(sources):  # SPEC S9
    told = []

    def report(line, keep=False):
        told.extend([line] * keep)

    open_source(sources["folder"], MODEL, TRAINING, report=report)
    assert told == ["passed over in texts: not a kind of file that is read: 1"]
    told.clear()
    open_source(DataOptions(text="many.txt", tokenizer="t.json"), MODEL, TRAINING, report=report)
    assert any("special tokens stand in the text" in line for line in told)


def test_the_training_length_cuts_the_windows(sources):  # SPEC E1
    for kind in ("pairs", "bytes", "stream"):
        model = MODEL if sources[kind].tokenizer else BYTES
        source = open_source(sources[kind], model, TrainConfig(batch_size=3, sequence_length=2))
        inputs, _ = next(iter(source.batches))
        assert inputs.shape[1] == 2
    with pytest.raises(
        LessonsError, match=r"^sequence_length = 17 is above the model's context, 16"
    ):
        open_source(sources["bytes"], BYTES, TrainConfig(sequence_length=17))


def bytes_in(folder: Path) -> int:
    """The size of all shards in a folder, from which some may go while it is looked at."""
    n_bytes = 0
    for path in list(folder.glob("*.parquet")):
        with suppress(FileNotFoundError):
            n_bytes += path.stat().st_size
    return n_bytes


def test_a_stream_keeps_to_its_limit_while_it_runs(sources):  # SPEC E8
    """And shards that had to make room come again as they were, with no token lost."""
    expected = list(islice(open_source(sources["stream"], MODEL, TRAINING).batches, 301))
    (folder,) = Path("runs/cache").glob("parquet-*")
    sizes = [path.stat().st_size for path in folder.glob("*.parquet")]
    assert len(sizes) > 7
    limit = 3 * max(sizes)
    options = replace(sources["stream"], cache_gb=limit / 1e9, cache="small")
    source = open_source(options, MODEL, TRAINING)
    (folder,) = Path("small").glob("parquet-*")
    for (same, _), (inputs, _) in zip(expected[:300], source.batches, strict=False):
        assert torch.equal(inputs, same)
        assert bytes_in(folder) <= limit
        state = json.loads(json.dumps(source.state.state_dict()))
    elsewhere = open_source(replace(options, cache="elsewhere"), MODEL, TRAINING)
    elsewhere.state.load_state_dict(state)  # another machine has nothing of the stream
    assert torch.equal(next(iter(elsewhere.batches))[0], expected[300][0])


def test_the_next_shard_is_fetched_ahead(sources):  # SPEC E8
    open_source(sources["stream"], MODEL, TRAINING)
    (folder,) = Path("runs/cache").glob("parquet-*")
    shutil.rmtree(folder)
    texts = shards.open_shards(folder, "a.parquet").read(0)
    assert next(texts) == TEXTS[0]
    for _ in range(500):
        if len(list(folder.glob("*.parquet"))) == 2:
            break
        time.sleep(0.01)
    assert len(list(folder.glob("*.parquet"))) == 2
    assert [TEXTS[0], *texts] == TEXTS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of --pairs FILE, --text FILE"),
        ({"corpus": True, "text": "a.txt"}, "give one of"),
        ({"fineweb": True, "text": "a.txt"}, "give one of"),
        ({"corpus": True, "seed_pairs": "seeds.tsv"}, "--seed-pairs doesn't go with this"),
        ({"pairs": "pairs.tsv", "tokenizer": "t.json"}, "--tokenizer doesn't go with this"),
        ({"pairs": "pairs.tsv", "held_out": "a.txt"}, "--held-out doesn't go with this"),
        ({"from_parquet": "a.parquet", "separator": "x"}, "--separator doesn't go with a stream"),
        ({"from_parquet": "a.parquet", "tokenizer": "bpe"}, "a stream needs a tokenizer"),
        ({"from_parquet": "no.parquet", "tokenizer": "t.json"}, r"no parquet file here \(no"),
        ({"text": "empty.parquet", "tokenizer": "t.json"}, r"0 characters are too few.*\(empty"),
        ({"from_parquet": "empty.parquet", "tokenizer": "t.json"}, "can't read it: ArrowInvalid"),
        ({"text": "train.npy", "tokenizer": "t.json"}, "a token file goes with a second one"),
        ({"text": "train.npy", "held_out": "held.npy"}, "and --tokenizer, which made both"),
        ({"text": "none.txt"}, r"no such file or folder \(none\.txt\)"),
        ({"text": "pairs.tsv"}, r"not a kind of file that is read.*pairs\.tsv"),
        ({"text": "short.txt"}, r"2 characters are too few to train on \(short\.txt\)"),
        ({"text": "a.txt", "separator": "%%"}, "'%%' is nowhere in the text"),
        ({"text": "a.txt", "tokenizer": "bytes"}, r"vocab_size = 300, but the tokens are bytes"),
        ({"text": "a.txt", "tokenizer": "gpt9"}, "No such file or directory"),
        ({"text": "a.txt", "cache": "a.txt", "tokenizer": "bpe"}, "can't write here"),
        ({"from_parquet": "a.parquet", "tokenizer": "t.json", "cache_gb": 1e-9}, "no room for a"),
    ],
)
def test_options_that_do_not_fit_are_refused(sources, options, message):  # SPEC S9
    Path("short.txt").write_text("ab")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), "empty.parquet")
    values = config_from_dict(DataOptions, options, "c.json")
    model = MODEL if values.tokenizer or "npy" in str(values.text) else BYTES
    with pytest.raises(LessonsError, match=message):
        open_source(values, model, TRAINING)


def test_a_vocabulary_that_does_not_fit_names_the_option_that_mends_it(sources):  # SPEC S9
    for model, n in ((MODEL, 256), (ModelConfig(280, 16, 8, 1, 1, 8), 300)):
        name = "bytes" if n == 256 else "t.json"
        with pytest.raises(LessonsError) as caught:
            open_source(DataOptions(text="a.txt", tokenizer=name), model, TRAINING)
        assert caught.value.where == f"--tokenizer {name}"
        assert f"--model.vocab-size {n}" in caught.value.remedy


@pytest.mark.parametrize("values", [[], {"txt": "a"}, {"text": 1}, {"corpus": "yes"}])
def test_a_source_in_a_file_that_is_none_is_refused(values):  # SPEC S9
    with pytest.raises(LessonsError, match=r"c\.json"):
        config_from_dict(DataOptions, values, where="c.json")
