"""The one door for data: what a run trains on, what it is judged by, and where it goes on.

Pairs, documents of any kind, token files, or FineWeb's stream become a `DataSource`.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transformer_lessons.cli import documents
from transformer_lessons.cli.documents import Report, silent
from transformer_lessons.cli.options.data import DataOptions
from transformer_lessons.cli.run_folder import check_tokenizer
from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import CountedBatches, _check_long_enough
from transformer_lessons.data.packing import TokenWindows
from transformer_lessons.data.pairs import pair_batches, read_pairs
from transformer_lessons.data.sampler import WindowLoader
from transformer_lessons.data.stream import TokenStream
from transformer_lessons.data.token_files import open_tokens
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.shards import open_shards
from transformer_lessons.tokenizers import ByteTokenizer, Tokenizer, load_tokenizer
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.evaluate import token_lengths, unigram_loss
from transformer_lessons.training.trainer import Batch, Stateful

PUBLISHED = {256: "bytes", 50_257: "gpt2", 100_277: "cl100k_base"}  # by size of vocabulary
JUDGED = 32_768  # tokens that were held out on the way: so many are judged by, at most
COUNTED = 10_000_000  # tokens that tell how often each occurs


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

    @cached_property
    def lengths(self) -> Tensor:
        """How many bytes each token stands for."""
        return token_lengths(self.tokenizer)

    @cached_property
    def tokens_per_byte(self) -> float:
        """Of the held-out text, the tokens that are predicted."""
        assert self.held_out is not None, "who asks has judged by it"
        return (len(self.held_out) - 1) / int(self.lengths[self.held_out[1:]].sum())


def open_source(
    options: DataOptions,
    model: ModelConfig,
    training: TrainConfig,
    workers: int = 0,
    report: Report = silent,
) -> DataSource:
    """The data that the options name, encoded if it isn't yet; exactly one source must be given."""
    _check_options(options)
    length = sequence_length(model, training)
    if options.pairs is not None:
        check_tokenizer(model, ByteTokenizer(), "--pairs")
        return _open_pairs(options.pairs, options.seed_pairs, length, training)
    tokenizer = choose_tokenizer(options.tokenizer, model)
    if options.fineweb or options.from_parquet:
        return _open_stream(options, tokenizer, length, training)
    return _open_documents(options, tokenizer, length, training, workers, report)


def _check_options(options: DataOptions) -> None:
    """Raise `LessonsError` for options that don't go together, before anything is read."""
    is_stream, is_pairs = options.fineweb or bool(options.from_parquet), bool(options.pairs)
    if is_pairs + (options.text is not None) + options.corpus + is_stream != 1:
        what = "give one of --pairs FILE, --text FILE or FOLDER, --corpus, --fineweb"
        raise LessonsError(f"{what} and --from-parquet FILE")
    wrong = {"--seed-pairs": None if is_pairs else options.seed_pairs}
    if is_stream or is_pairs:
        wrong |= {"--held-out": options.held_out, "--separator": options.separator}
    if is_pairs and options.tokenizer != "bytes":
        wrong["--tokenizer"] = options.tokenizer
    if given := [name for name, value in wrong.items() if value is not None]:
        raise LessonsError(
            f"{given[0]} doesn't go with {'a stream' if is_stream else 'this source'}"
        )


def sequence_length(model: ModelConfig, training: TrainConfig) -> int:
    """How many tokens are trained on at a time; more than `model` can look at raises."""
    length = training.sequence_length or model.context_length
    if length > model.context_length:
        what = f"sequence_length = {length} is above the model's context, {model.context_length}"
        raise LessonsError(what, where="--training.sequence-length", remedy="Lower it.")
    return length


def choose_tokenizer(name: str | None, model: ModelConfig) -> Tokenizer | int:
    """The tokenizer called `name`, or the size of one to learn; it fits `model`, or this raises."""
    name = name or PUBLISHED.get(model.vocab_size, "bpe")
    if name == "bpe":
        return model.vocab_size
    tokenizer = load_tokenizer(name)
    check_tokenizer(model, tokenizer, f"--tokenizer {name}")
    return tokenizer


def _open_pairs(path: str, seed_path: str | None, length: int, training: TrainConfig) -> DataSource:
    """Pairs, with their answers as targets."""
    pairs = [*(read_pairs(seed_path) if seed_path else []), *read_pairs(path)]
    sizes = length, training.batch_size, training.seed
    batches = CountedBatches(partial(pair_batches, pairs, *sizes))
    prompt = list(pairs[0][0] or pairs[0][1][:1])
    name, digest = f"{path}, pairs: {len(pairs):,}", hashlib.sha256(repr(pairs).encode())
    return DataSource(batches, batches, prompt, name, digest.hexdigest(), ByteTokenizer())


def _open_documents(
    options: DataOptions,
    tokenizer: Tokenizer | int,
    length: int,
    training: TrainConfig,
    workers: int,
    report: Report,
) -> DataSource:
    """Token files, made if need be, cut into windows that are taken in random order."""
    names = [name for name in (options.text, options.held_out) if name is not None]
    are_encoded = {name.endswith(".npy") for name in names}
    if True not in are_encoded:
        folder = documents.encode_source(options, tokenizer, report)
        tokenizer = load_tokenizer(folder)
        names = [f"{folder}/{split}.npy" for split in ("train", "validation")]
    elif isinstance(tokenizer, int) or len(names) != 2 or False in are_encoded:
        what = "a token file goes with a second one, --held-out, and --tokenizer, which made both"
        raise LessonsError(what, where=names[0])
    tokens, judged = (open_tokens(name, tokenizer) for name in names)
    if len(tokens.ids) <= length:
        what, where = f"{len(tokens.ids)} tokens, but {length + 1} are needed", options.text or ""
        remedy = "Use a longer text, or a smaller --training.sequence-length."
        raise LessonsError(what, where=where, remedy=remedy)
    windows, facts = TokenWindows(tokens, length), tokens.facts
    batches = WindowLoader(windows, training.batch_size, training.seed, n_workers=workers)
    train, held = (torch.from_numpy(f.ids[:COUNTED].astype(np.int64)) for f in (tokens, judged))
    _check_long_enough(held, 2)
    held = held[:JUDGED] if options.held_out is None else held
    name = f"{options.text or documents.DOCUMENTATION}, tokens: {facts['n_tokens']:,}"
    made_of = facts["source_sha256"] + facts["tokenizer_sha256"] + facts["separator"]
    digest = hashlib.sha256(made_of.encode()).hexdigest()
    unigram = unigram_loss(train, held, tokenizer.n_vocab)
    prompt = held[:8].tolist()
    return DataSource(batches, batches, prompt, name, digest, tokenizer, held, unigram)


def _open_stream(
    options: DataOptions, tokenizer: Tokenizer | int, length: int, training: TrainConfig
) -> DataSource:
    """Documents of FineWeb, encoded on the way; the first ones of the tenth held out are kept."""
    if isinstance(tokenizer, int):
        remedy = "Name one: --tokenizer FILE, or a preset whose vocabulary is published."
        raise LessonsError("a stream needs a tokenizer that is there", remedy=remedy)
    parquet, max_bytes = options.from_parquet, int(options.cache_gb * 1e9)
    name = "fineweb"
    if parquet is not None:
        digest = hashlib.sha256(parquet.encode("utf-8", "surrogateescape")).hexdigest()
        name = f"parquet-{digest[:16]}"
    shards = open_shards(Path(options.cache) / name, parquet, max_bytes)
    stream = TokenStream(shards, tokenizer, length, training.batch_size)
    ids, last = list[int](), -1
    for number, document in TokenStream(shards, tokenizer, 1, 1, split="validation").documents():
        if number <= last or len(ids) >= JUDGED:  # it begins again, or it is enough
            break
        ids, last = ids + document, number
    held = torch.tensor(ids)
    _check_long_enough(held, 2)
    return DataSource(stream, stream, ids[:8], shards.name, shards.name, tokenizer, held)
