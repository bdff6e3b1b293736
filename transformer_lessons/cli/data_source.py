"""The one door for data: what a run trains on, what it is judged by, and where it goes on.

Pairs, documents of any kind, token files, or FineWeb's stream become a `DataSource`.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transformer_lessons.cli.documents import DOCUMENTATION, Report, encode_source, silent
from transformer_lessons.cli.run_folder import check_tokenizer
from transformer_lessons.config import ModelConfig, check_fields
from transformer_lessons.data.batches import CountedBatches, _check_long_enough
from transformer_lessons.data.packing import TokenWindows
from transformer_lessons.data.pairs import pair_batches, read_pairs
from transformer_lessons.data.sampler import WindowSampler, load_batches
from transformer_lessons.data.token_files import open_tokens
from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tokenizer import Tokenizer, load_tokenizer
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import unigram_loss
from transformer_lessons.training.trainer import Batch, Stateful

PUBLISHED = {256: "bytes", 50_257: "gpt2", 100_277: "cl100k_base"}  # by size of vocabulary
JUDGED = 32_768  # tokens that were held out on the way: so many are judged by, at most
COUNTED = 10_000_000  # tokens that tell how often each occurs


@dataclass(frozen=True)
class DataOptions:
    """Where the data is; exactly one of pairs, text and corpus is given."""

    pairs: str | None = None
    """Train on pairs: a file with base64(input) TAB base64(output) on each line."""
    seed_pairs: str | None = None
    """More pairs, put before those of --pairs."""
    text: str | None = None
    """Train on documents: a .txt, .md, .py, .jsonl or .parquet file, a folder of them, or a token
    file (.npy) that `tokenizer encode` wrote."""
    corpus: bool = False
    """Train on the documentation that comes with Python."""
    held_out: str | None = None
    """Judge by another source of this kind; without it, a tenth of --text is held out."""
    tokenizer: str | None = None
    """bytes, gpt2, cl100k_base, a tokenizer's file or folder, or bpe, which is learned from the
    text. By default, the one whose vocabulary is the model's."""
    cache: str = "runs/cache"
    """The folder where encoded text is kept, to be used again."""

    def __post_init__(self) -> None:
        check_fields(self)


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
    options: DataOptions,
    model: ModelConfig,
    training: TrainConfig,
    workers: int = 0,
    report: Report = silent,
) -> DataSource:
    """The data that the options name, encoded if it isn't yet; exactly one source must be given."""
    if sum(source is not None for source in (options.pairs, options.text)) + options.corpus != 1:
        raise LessonsError("give one of --pairs FILE, --text FILE or FOLDER, and --corpus")
    if options.seed_pairs is not None and options.pairs is None:
        raise LessonsError("--seed-pairs goes in front of --pairs FILE, which is not given")
    if options.pairs is not None:
        if options.tokenizer not in (None, "bytes") or options.held_out is not None:
            what = "--pairs FILE, whose tokens are bytes, goes without --tokenizer and --held-out"
            raise LessonsError(what)
        check_tokenizer(model, ByteTokenizer(), "--pairs")
        return _open_pairs(options.pairs, options.seed_pairs, model, training)
    tokenizer = choose_tokenizer(options.tokenizer, model)
    return _open_text(options, tokenizer, model, training, workers, report)


def sequence_length(model: ModelConfig, training: TrainConfig) -> int:
    """How many tokens are trained on at a time; more than `model` can look at raises."""
    length = training.sequence_length or model.context_length
    if length > model.context_length:
        what = f"sequence_length = {length} is above the model's context, {model.context_length}"
        remedy = "Lower it, or raise --model.context-length."
        raise LessonsError(what, where="TrainConfig.sequence_length", remedy=remedy)
    return length


def choose_tokenizer(name: str | None, model: ModelConfig) -> Tokenizer | int:
    """The tokenizer called `name`, or the size of one to learn; it fits `model`, or this raises."""
    name = name or PUBLISHED.get(model.vocab_size, "bpe")
    if name == "bpe":
        return model.vocab_size
    tokenizer = load_tokenizer(name)
    check_tokenizer(model, tokenizer, f"--tokenizer {name}")
    return tokenizer


def _open_pairs(
    path: str, seed_path: str | None, model: ModelConfig, training: TrainConfig
) -> DataSource:
    """Pairs, with their answers as targets."""
    pairs = read_pairs(path, read_pairs(seed_path) if seed_path else [])
    sizes = sequence_length(model, training), training.batch_size, training.seed
    batches = CountedBatches(partial(pair_batches, pairs, *sizes))
    prompt = list(pairs[0][0] or pairs[0][1][:1])
    name, digest = f"{path}, pairs: {len(pairs):,}", hashlib.sha256(repr(pairs).encode())
    return DataSource(batches, batches, prompt, name, digest.hexdigest(), ByteTokenizer())


def _open_text(
    options: DataOptions,
    tokenizer: Tokenizer | int,
    model: ModelConfig,
    training: TrainConfig,
    workers: int,
    report: Report,
) -> DataSource:
    """Documents as token files, cut into windows that are taken in random order."""
    path, held_out = options.text, options.held_out
    are_encoded = {name.endswith(".npy") for name in (path, held_out) if name}
    if are_encoded == {True} and path and held_out:
        if isinstance(tokenizer, int):
            raise LessonsError("a token file goes with the --tokenizer that made it", where=path)
        files = Path(path), Path(held_out)
    elif True in are_encoded:
        raise LessonsError("a token file goes with another one: --text and --held-out")
    else:
        given = path, held_out, tokenizer, Path(options.cache), report, max(workers, 1)
        folder = encode_source(*given)
        tokenizer = load_tokenizer(folder)
        files = folder / "train.npy", folder / "validation.npy"
    tokens, judged = (open_tokens(file, tokenizer) for file in files)
    windows = TokenWindows(tokens, sequence_length(model, training))
    sampler = WindowSampler(len(windows), training.batch_size, training.seed)
    batches = load_batches(windows, sampler, workers)
    train, held = (torch.from_numpy(f.ids[:COUNTED].astype(np.int64)) for f in (tokens, judged))
    _check_long_enough(held, 2)
    held = held[:JUDGED] if held_out is None else held
    name = f"{path or DOCUMENTATION}, tokens: {tokens.facts.n_tokens:,}"
    made_of = tokens.facts.source_sha256 + tokens.facts.tokenizer_sha256
    digest, unigram = hashlib.sha256(made_of.encode()), unigram_loss(train, held, model.vocab_size)
    about = name, digest.hexdigest(), tokenizer, held, unigram
    return DataSource(batches, sampler, held[:8].tolist(), *about)
