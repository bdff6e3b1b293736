"""The one door for data: what a run trains on, what it is judged by, and where it goes on.

Pairs, a text, Python's documentation, token files, or shards become a `DataSource`.
"""

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
from transformer_lessons.data.batches import CountedBatches, _check_long_enough, random_windows
from transformer_lessons.data.packing import TokenWindows
from transformer_lessons.data.pairs import pair_batches, read_pairs
from transformer_lessons.data.sampler import WindowLoader
from transformer_lessons.data.stream import TokenStream
from transformer_lessons.data.token_files import open_tokens
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.support.shards import open_folder
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
    """Train on a text file, its bytes or --tokenizer's tokens; its last tenth is held out."""
    corpus: bool = False
    """Train on the documentation that comes with Python; its last tenth is held out."""
    tokens: Path | None = None
    """Train on a token file that `tokenizer encode` wrote."""
    held_out: Path | None = None
    """The token file to judge by, with --tokens."""
    shards: Path | None = None
    """Train on what `download fineweb` put in a folder; a tenth of the documents is held out."""
    tokenizer: str | None = None
    """The tokenizer: a .json file, or a name. Needed by --tokens and --shards."""

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
        paths = {k: Path(v) for k, v in values.items() if isinstance(v, str) and k != "tokenizer"}
        return cls(**(values | paths))


@dataclass(frozen=True)
class DataSource:
    """What to train on, what to judge by, and where samples start from."""

    batches: Iterable[Batch]
    state: Stateful  # where the batches stand, for checkpoints
    prompt: list[int]
    name: str
    fingerprint: str  # of what is trained on: a run goes on only with the same
    tokenizer: Tokenizer
    held_out: Tensor | None = None
    unigram_loss: float | None = None  # on held_out, of knowing only how often each token occurs


def open_source(
    options: DataOptions, model: ModelConfig, training: TrainConfig, workers: int = 0
) -> DataSource:
    """The data that the options name; exactly one source must be given."""
    paths = (options.pairs, options.text, options.tokens, options.shards)
    if sum(path is not None for path in paths) + options.corpus != 1:
        what = "give one of --pairs FILE, --text FILE, --corpus, --tokens FILE and --shards FOLDER"
        raise LessonsError(what)
    if options.seed_pairs is not None and options.pairs is None:
        raise LessonsError("--seed-pairs goes in front of --pairs FILE, which is not given")
    if options.held_out is not None and options.tokens is None:
        raise LessonsError("--held-out goes with --tokens FILE, which is not given")
    if options.tokenizer is not None and options.pairs is not None:
        raise LessonsError("--tokenizer doesn't go with --pairs FILE, whose tokens are bytes")
    if options.tokenizer is None and options.shards is not None:
        raise LessonsError("--shards FOLDER needs --tokenizer FILE")
    if options.tokens is not None and (options.tokenizer is None or options.held_out is None):
        raise LessonsError("--tokens FILE needs --held-out FILE and --tokenizer FILE")
    tokenizer = load_tokenizer(options.tokenizer) if options.tokenizer else ByteTokenizer()
    check_tokenizer(model, tokenizer, "--model.vocab-size")
    if options.pairs is not None:
        return _open_pairs(options.pairs, options.seed_pairs, model, training)
    if options.tokens is not None and options.held_out is not None:
        return _open_tokens(options.tokens, options.held_out, tokenizer, model, training, workers)
    if options.shards is not None:
        return _open_shards(options.shards, tokenizer, model, training)
    return _open_text(options.text, tokenizer, model, training)


def _open_pairs(
    path: Path, seed_path: Path | None, model: ModelConfig, training: TrainConfig
) -> DataSource:
    """Pairs, with their answers as targets."""
    pairs = [*(read_pairs(seed_path) if seed_path else []), *read_pairs(path)]
    make = partial(pair_batches, pairs, model.context_length, training.batch_size, training.seed)
    batches = CountedBatches(make)
    prompt = list(pairs[0][0] or pairs[0][1][:1])
    name, digest = f"{path}, pairs: {len(pairs):,}", hashlib.sha256(repr(pairs).encode())
    return DataSource(batches, batches, prompt, name, digest.hexdigest(), ByteTokenizer())


def _open_text(
    path: Path | None, tokenizer: Tokenizer, model: ModelConfig, training: TrainConfig
) -> DataSource:
    """The tokens of a text file, or of Python's documentation; its last tenth is held out."""
    data = python_documentation().encode() if path is None else _read_bytes(path)
    is_bytes = isinstance(tokenizer, ByteTokenizer)  # then it needn't be UTF-8
    tokens = torch.tensor(list(data) if is_bytes else tokenizer.encode_ordinary(_text(data, path)))
    n_train = len(tokens) - len(tokens) // 10
    train_tokens, held_out = tokens[:n_train], tokens[n_train:]
    _check_long_enough(train_tokens, model.context_length + 1)  # now, not at the first batch
    _check_long_enough(held_out, 2)
    sizes = model.context_length, training.batch_size, training.seed
    batches = CountedBatches(partial(random_windows, train_tokens, *sizes))
    unigram = unigram_loss(train_tokens, held_out, model.vocab_size)
    name, digest = str(path or "Python's documentation"), hashlib.sha256(data).hexdigest()
    prompt = held_out[:8].tolist()
    return DataSource(batches, batches, prompt, name, digest, tokenizer, held_out, unigram)


def _open_tokens(
    path: Path,
    held_out_path: Path,
    tokenizer: Tokenizer,
    model: ModelConfig,
    training: TrainConfig,
    workers: int,
) -> DataSource:
    """A token file, cut into windows that are taken in random order."""
    tokens = open_tokens(path, tokenizer)
    held_out = torch.from_numpy(open_tokens(held_out_path, tokenizer).ids.astype(np.int64))
    _check_long_enough(held_out, 2)
    windows = TokenWindows(tokens, model.context_length)
    batches = WindowLoader(windows, training.batch_size, training.seed, n_workers=workers)
    facts = tokens.facts
    name = f"{path}, tokens: {facts['n_tokens']:,}"
    made_of = facts["source_sha256"] + facts["tokenizer_sha256"] + facts["separator"]
    digest = hashlib.sha256(made_of.encode()).hexdigest()
    return DataSource(batches, batches, held_out[:8].tolist(), name, digest, tokenizer, held_out)


def _open_shards(
    folder: Path, tokenizer: Tokenizer, model: ModelConfig, training: TrainConfig
) -> DataSource:
    """Documents from shards, encoded on the way; the first ones of the tenth held out are kept."""
    shards = open_folder(folder)
    stream = TokenStream(shards, tokenizer, model.context_length, training.batch_size)
    ids, last = list[int](), -1
    for number, document in TokenStream(shards, tokenizer, 1, 1, split="validation").documents():
        if number <= last or len(ids) >= HELD_OUT_TOKENS:  # it begins again, or it is enough
            break
        ids, last = ids + document, number
    held_out = torch.tensor(ids)
    _check_long_enough(held_out, 2)
    return DataSource(stream, stream, ids[:8], str(folder), shards.name, tokenizer, held_out)


def _read_bytes(path: Path) -> bytes:
    """The bytes of a file of at least 100; anything else raises `LessonsError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None
    if len(data) < 100:
        what = f"{len(data)} bytes are too few to train on"
        raise LessonsError(what, where=str(path), remedy="Give a file of at least 100 bytes.")
    return data


def _text(data: bytes, path: Path | None) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LessonsError("not UTF-8", where=f"{path}, byte {error.start}") from None
