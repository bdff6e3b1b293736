"""From a source of documents to token files: what `train` prepares on the way, once.

The folder that comes of it holds train.jsonl and validation.jsonl, the same as token files (.npy),
and tokenizer.json. It is called after the hash of all that it follows from, so that the same text
and tokenizer are never encoded twice.
"""

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain, islice
from pathlib import Path

from transformer_lessons.cli.options.data import DataOptions
from transformer_lessons.data.documents import END_OF_TEXT, separate_documents
from transformer_lessons.data.split import split_of
from transformer_lessons.data.token_files import tokenize_corpus
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_topics
from transformer_lessons.support.documents import Document, Dropped, read_documents, refuse
from transformer_lessons.support.files import new_folder
from transformer_lessons.tokenizers import BPETokenizer, Tokenizer, fingerprint

FEW = 100  # documents: fewer are too few to be held out whole
HELD_OUT = 0.1  # the share of the documents, or of each of a few
DOCUMENTATION = "Python's documentation"
Report = Callable[..., None]  # is told how far the work is; with keep=True: what must be said


def silent(*_: object, **__: object) -> None:
    """The report of those who don't ask."""


def read_source(
    path: str | None, report: Report = silent, separator: str | None = None
) -> Iterator[Document]:
    """The documents of a file or a folder; None: of Python's documentation.

    What is in a folder and can't be read is passed over, and counted in the report.
    """
    passed_over = Counter[str]()

    def pass_over(dropped: Dropped) -> None:
        passed_over[dropped.reason] += 1

    documents = python_topics()
    if path is not None:
        documents = read_documents([path], pass_over if Path(path).is_dir() else refuse)
    yield from documents if separator is None else separate_documents(documents, separator)
    if passed_over:
        reasons = ", ".join(f"{reason}: {n:,}" for reason, n in sorted(passed_over.items()))
        report(f"passed over in {path}: {reasons}", keep=True)


def split_documents(documents: Iterable[Document]) -> Iterator[tuple[str, str]]:
    """Texts, each with its split: a tenth of the documents, by their hash, is for validation.

    Of fewer than `FEW`, which could all be on one side, the last tenth of each is held out.
    """
    documents = iter(documents)
    first = list(islice(documents, FEW))
    for document in chain(first, documents):
        text = document.text
        if len(first) == FEW:
            yield split_of(text, HELD_OUT, 0.0), text
            continue
        n_train = len(text) - int(len(text) * HELD_OUT)
        yield "train", text[:n_train]
        if n_train < len(text):
            yield "validation", text[n_train:]


def learn_tokenizer(
    documents: Iterable[Document],
    vocab_size: int,
    report: Report = silent,
    special_tokens: Sequence[str] = (END_OF_TEXT,),
    pattern: str = "gpt4",
    n_workers: int = 1,
) -> BPETokenizer:
    """Byte-pair encoding, learned from `documents`; what is put between them keeps them apart."""
    apart = END_OF_TEXT if END_OF_TEXT in special_tokens else "\n"

    def told() -> Iterator[str]:
        n_read = 0
        for document in documents:
            yield document.text + (apart if document.is_end else "")
            n_read += len(document.text)
            report(f"{n_read / 1e6:.1f} million characters read")

    sizes = vocab_size, special_tokens, pattern, n_workers
    return BPETokenizer.train(told(), *sizes, report=lambda n: report(f"{n:,} merges learned"))


def read_splits(options: DataOptions, report: Report = silent) -> Iterator[tuple[str, str]]:
    """Texts, each with its split; all of --held-out, where it is given, is for validation."""
    if options.held_out is None:
        source = read_source(options.text, report, options.separator)
        yield from split_documents(source)
        return
    for split, path in (("train", options.text), ("validation", options.held_out)):
        for document in read_source(path, report, options.separator):
            yield split, document.text


def encode_source(
    options: DataOptions, tokenizer: Tokenizer | int, report: Report = silent
) -> Path:
    """The folder in --cache with two splits of a source, encoded; it is made if need be.

    Where `tokenizer` is a number, byte-pair encoding with so many tokens is learned from the texts
    to train on. Splits that are empty raise `LessonsError`.
    """
    by = f"bpe {tokenizer}" if isinstance(tokenizer, int) else fingerprint(tokenizer)
    made_of = hashlib.sha256(by.encode())
    for split, text in read_splits(options):
        made_of.update(hashlib.sha256(f"{split} {text}".encode("utf-8", "surrogatepass")).digest())
    folder = Path(options.cache) / made_of.hexdigest()[:16]
    if folder.exists():
        return folder
    with new_folder(folder) as new, told_warnings(report):
        write_splits(read_splits(options, report), new, options.text or DOCUMENTATION)
        if isinstance(tokenizer, int):
            documents = read_documents([new / "train.jsonl"])
            tokenizer = learn_tokenizer(documents, tokenizer, report)
        tokenizer.save(new / "tokenizer.json")
        for split in ("train", "validation"):
            files = new / f"{split}.jsonl", tokenizer, new / f"{split}.npy"
            tokenize_corpus(*files, None, lambda n, _: report(f"{n / 1e6:.1f} MB encoded"))
    return folder


@contextmanager
def told_warnings(report: Report) -> Iterator[None]:
    """Warnings of this block, such as special tokens that stand in a text, go to the report."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
    for message in sorted({str(warning.message) for warning in warned}):
        report(f"Warning: {message}", keep=True)


def write_splits(texts: Iterable[tuple[str, str]], folder: Path, name: str) -> None:
    """Write {"text"} lines to the file of each text's split; both must get some."""
    counts = Counter[str]()
    with ExitStack() as stack:
        names = {split: folder / f"{split}.jsonl" for split in ("train", "validation")}
        files = {split: stack.enter_context(path.open("w")) for split, path in names.items()}
        for split, text in texts:
            counts[split] += len(text)
            files[split].write(json.dumps({"text": text}) + "\n")
    if not all(counts[split] for split in names):
        what = f"{counts.total()} characters are too few to train on"
        raise LessonsError(what, where=name, remedy="Give more text.")
