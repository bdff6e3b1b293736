"""What a run trains on: pairs, a text, Python's documentation, or token files."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transformer_lessons.cli.run_folder import check_tokenizer
from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import CountedBatches, check_long_enough, random_windows
from transformer_lessons.data.packing import TokenWindows
from transformer_lessons.data.pairs import pair_batches, read_pairs
from transformer_lessons.data.sampler import WindowSampler, load_batches
from transformer_lessons.data.shard_cache import open_folder
from transformer_lessons.data.stream import TokenStream
from transformer_lessons.data.token_files import open_tokens
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tokenizer import Tokenizer, load_tokenizer
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import unigram_loss
from transformer_lessons.training.trainer import Batch, Stateful

HELD_OUT_TOKENS = 65_536  # of a stream, about: so many are kept in memory to judge by


@dataclass(frozen=True)
class DataOptions:
    """Where the data is; exactly one of pairs, text, corpus, tokens and shards is given."""

    pairs: Path | None = None
    """Train on pairs: a file with base64(input) TAB base64(output) on each line."""
    seed_pairs: Path | None = None
    """More pairs, put before those of --pairs."""
    text: Path | None = None
    """Train on the bytes of a file; its last tenth is held out."""
    corpus: bool = False
    """Train on the documentation that comes with Python; its last tenth is held out."""
    tokens: Path | None = None
    """Train on a token file that `tokenizer encode` wrote."""
    held_out: Path | None = None
    """The token file to judge by, with --tokens."""
    shards: Path | None = None
    """Train on what `download fineweb` put in a folder; a tenth of the documents is held out."""
    tokenizer: Path | None = None
    """The tokenizer of --tokens, or for --shards."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str) -> "DataOptions":
        """The inverse of `to_dict`; anything else raises `LessonsError`."""
        kinds = {field.name: bool if field.name == "corpus" else str for field in fields(cls)}
        if not isinstance(values, dict) or not set(values) <= set(kinds):
            raise LessonsError(f"a source of data has the keys {', '.join(kinds)}", where=where)
        for name, value in values.items():
            if not isinstance(value, kinds[name]) and not (value is None and name != "corpus"):
                raise LessonsError(f"{name} = {value!r} is no source of data", where=where)
        return cls(**{k: Path(v) if isinstance(v, str) else v for k, v in values.items()})


@dataclass(frozen=True)
class DataSource:
    """What to train on, what to judge by, and where samples start from."""

    batches: Iterable[Batch]
    state: Stateful
    prompt: list[int]
    name: str
    fingerprint: str  # of what is trained on: a run goes on only with the same
    tokenizer: Tokenizer
    held_out: Tensor | None = None
    unigram_loss: float | None = None  # loss on held_out of knowing only how often each byte occurs


def open_source(
    source: DataOptions, model: ModelConfig, training: TrainConfig, workers: int
) -> DataSource:
    """The data that the options name; exactly one source must be given."""
    paths = (source.pairs, source.text, source.tokens, source.shards)
    if sum(path is not None for path in paths) + source.corpus != 1:
        what = "give one of --pairs FILE, --text FILE, --corpus, --tokens FILE and --shards FOLDER"
        raise LessonsError(what)
    if source.seed_pairs is not None and source.pairs is None:
        raise LessonsError("--seed-pairs goes in front of --pairs FILE, which is not given")
    if source.tokens is not None:
        return load_tokens(source, model, training, workers)
    if source.held_out is not None:
        raise LessonsError("--held-out goes with --tokens FILE, which is not given")
    if source.shards is not None:
        return load_shards(source, model, training)
    if source.tokenizer is not None:
        raise LessonsError("--tokenizer goes with --tokens FILE or --shards FOLDER")
    check_tokenizer(model, ByteTokenizer(), "--model.vocab-size")
    return (
        load_pairs(source, model, training) if source.pairs else load_text(source, model, training)
    )


def load_pairs(source: DataOptions, model: ModelConfig, training: TrainConfig) -> DataSource:
    """Pairs, with their answers as targets."""
    seed_pairs = read_pairs(source.seed_pairs) if source.seed_pairs else []
    pairs = read_pairs(source.pairs, seed_pairs)
    make = partial(pair_batches, pairs, model.context_length, training.batch_size, training.seed)
    batches = CountedBatches(make)
    question, answer = pairs[0]
    name = f"{source.pairs}, pairs: {len(pairs):,}"
    digest = hashlib.sha256(repr(pairs).encode()).hexdigest()
    return DataSource(batches, batches, list(question or answer[:1]), name, digest, ByteTokenizer())


def load_text(source: DataOptions, model: ModelConfig, training: TrainConfig) -> DataSource:
    """The bytes of a text; its last tenth is held out."""
    name = "Python's documentation" if source.corpus else str(source.text)
    text = python_documentation().encode() if source.corpus else read_bytes(source.text)
    tokens = torch.tensor(list(text))
    n_train = len(tokens) - len(tokens) // 10
    train_tokens, held_out = tokens[:n_train], tokens[n_train:]
    check_long_enough(train_tokens, model.context_length + 1)  # now, not at the first batch
    sizes = model.context_length, training.batch_size, training.seed
    batches = CountedBatches(partial(random_windows, train_tokens, *sizes))
    unigram = unigram_loss(train_tokens, held_out, model.vocab_size)
    prompt = list(text[n_train : n_train + 8])
    digest = hashlib.sha256(text).hexdigest()
    return DataSource(batches, batches, prompt, name, digest, ByteTokenizer(), held_out, unigram)


def load_tokens(
    source: DataOptions, model: ModelConfig, training: TrainConfig, workers: int
) -> DataSource:
    """A token file, cut into windows that are taken in random order."""
    if source.held_out is None or source.tokenizer is None:
        raise LessonsError("--tokens FILE needs --held-out FILE and --tokenizer FILE")
    tokenizer = load_tokenizer(source.tokenizer)
    check_tokenizer(model, tokenizer, "--model.vocab-size")
    tokens = open_tokens(source.tokens, tokenizer)
    held_out = torch.from_numpy(open_tokens(source.held_out, tokenizer).ids.astype(np.int64))
    check_long_enough(held_out, 2)
    windows = TokenWindows(tokens, model.context_length)
    sampler = WindowSampler(len(windows), training.batch_size, training.seed)
    batches = load_batches(windows, sampler, workers)
    name = f"{source.tokens}, tokens: {tokens.header.n_tokens:,}"
    made_of = tokens.header.source_sha256 + tokens.header.tokenizer_sha256
    digest = hashlib.sha256(made_of.encode()).hexdigest()
    return DataSource(batches, sampler, held_out[:8].tolist(), name, digest, tokenizer, held_out)


def load_shards(source: DataOptions, model: ModelConfig, training: TrainConfig) -> DataSource:
    """Documents from shards, encoded on the way; the first ones of the tenth held out are kept."""
    if source.tokenizer is None:
        raise LessonsError("--shards FOLDER needs --tokenizer FILE")
    tokenizer = load_tokenizer(source.tokenizer)
    check_tokenizer(model, tokenizer, "--model.vocab-size")
    shards = open_folder(source.shards)
    stream = TokenStream(shards, tokenizer, model.context_length, training.batch_size)
    ids, last = [], -1
    for number, document in TokenStream(shards, tokenizer, 1, 1, split="validation").documents():
        if number <= last or len(ids) >= HELD_OUT_TOKENS:  # it begins again, or it is enough
            break
        ids, last = ids + document, number
    held_out = torch.tensor(ids)
    check_long_enough(held_out, 2)
    name = str(source.shards)
    return DataSource(stream, stream, ids[:8], name, shards.name, tokenizer, held_out)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file of at least 100; anything else raises `LessonsError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None
    if len(data) < 100:
        what = f"{len(data)} bytes are too few to train on"
        raise LessonsError(what, where=str(path), remedy="Give a file of at least 100 bytes.")
    return data
