"""Token files: a corpus as token ids, computed once and from then on mapped into memory. Lesson 4.

NAME.npy is an array as `np.save` writes it. NAME.json beside it says from which text and by which
tokenizer the ids were made, as SHA-256 hashes: ids mean nothing to another tokenizer.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from transformer_lessons.config import Count, CountOrZero, check_fields, config_from_dict
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import Document, read_documents
from transformer_lessons.support.files import new_file, read_json, replace_file, sha256
from transformer_lessons.tokenizers.pretokenizer import safe_blocks
from transformer_lessons.tokenizers.tokenizer import Tokenizer, fingerprint, load_tokenizer

END_OF_TEXT = "<|endoftext|>"
BLOCK = 1 << 20  # characters that a worker process is given at a time
Part = tuple[str, bool]  # some text, and whether a document ends with it
Encoded = tuple[list[int], int, int]  # ids, how many documents end in them, bytes of the text


@dataclass(frozen=True)
class TokenFacts:
    """What a token file says about itself."""

    n_vocab: Count  # every id is below it
    end_of_text: CountOrZero | None  # the id that ends each document
    tokenizer_sha256: str  # `fingerprint` of the tokenizer
    source_sha256: str  # of the file that the text was in
    n_documents: CountOrZero = 0
    n_bytes: CountOrZero = 0  # of the text, as UTF-8
    n_tokens: CountOrZero = 0

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def dtype(self) -> np.dtype:
        """uint16 for up to 65,536 different ids, uint32 for more."""
        return np.dtype("<u2" if self.n_vocab <= 65_536 else "<u4")


@dataclass(frozen=True, eq=False)
class TokenFile:
    """An open token file: `ids` is an array on disk, of which only what is used is read."""

    path: Path
    facts: TokenFacts
    ids: np.ndarray

    def __reduce__(self) -> tuple:
        return open_tokens, (self.path,)  # another process opens the file itself


def tokenize_corpus(
    source: Path | str,
    tokenizer: Tokenizer,
    path: Path | str,
    n_workers: int = 1,
    report: Callable[[int, int], None] = lambda n_bytes, n_tokens: None,
) -> TokenFile:
    """Encode the documents of the file `source` with `n_workers` processes to `path`, a .npy file.

    Each document is followed by the id of <|endoftext|>, if the tokenizer has it. Special tokens
    that stand in the text are text. Anything that can't be read raises `LessonsError`, and then
    `path` is as it was. `report` is called with the bytes of text and the tokens made so far.
    """
    source, path = Path(source), _npy_path(path)
    documents, end = read_documents([source]), tokenizer.special_tokens.get(END_OF_TEXT)
    facts = TokenFacts(tokenizer.n_vocab, end, fingerprint(tokenizer), sha256(source))
    counts = np.zeros(3, np.int64)  # documents, bytes and tokens so far
    with new_file(path) as file:
        header = {"descr": facts.dtype.str, "fortran_order": False, "shape": (0,)}
        np.lib.format.write_array_header_1_0(file, header)
        for ids, n_documents, n_bytes in encode_documents(documents, tokenizer, n_workers):
            file.write(np.array(ids, facts.dtype).tobytes())
            counts += n_documents, n_bytes, len(ids)
            report(int(counts[1]), int(counts[2]))
        n_documents, n_bytes, n_tokens = counts.tolist()
        facts = replace(facts, n_documents=n_documents, n_bytes=n_bytes, n_tokens=n_tokens)
        file.seek(0)  # NumPy leaves room in the header for any length
        np.lib.format.write_array_header_1_0(file, header | {"shape": (facts.n_tokens,)})
        path.with_suffix(".json").unlink(missing_ok=True)  # it was about other ids
    replace_file(path.with_suffix(".json"), json.dumps(asdict(facts), indent=2) + "\n")
    return open_tokens(path)


def open_tokens(path: Path | str, tokenizer: Tokenizer | None = None) -> TokenFile:
    """Map the token file `path`; with a `tokenizer`, only if its ids are that tokenizer's.

    A file that is damaged, cut short, something else, or without its facts raises `LessonsError`.
    """
    path = _npy_path(path)
    facts_path, remedy = path.with_suffix(".json"), "Encode the text again: `tokenizer encode`."
    facts: TokenFacts = config_from_dict(TokenFacts, read_json(facts_path), str(facts_path))
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LessonsError(f"can't read it: {error}", where=str(path), remedy=remedy) from None
    n_bytes = getattr(ids, "offset", 0) + ids.nbytes
    if (ids.dtype, ids.shape) != (facts.dtype, (facts.n_tokens,)) or n_bytes != path.stat().st_size:
        what = f"{path.stat().st_size:,} bytes of {ids.dtype}{list(ids.shape)}, not what "
        what += f"{facts_path.name} says: {facts.n_tokens:,} of {facts.dtype}"
        raise LessonsError(what, where=str(path), remedy=remedy)
    if tokenizer is not None and fingerprint(tokenizer) != facts.tokenizer_sha256:
        what, remedy = "the ids are another tokenizer's", "Use the tokenizer that it was made with."
        raise LessonsError(what, where=str(path), remedy=remedy)
    return TokenFile(path, facts, ids)


def encode_documents(
    documents: Iterable[Document], tokenizer: Tokenizer, n_workers: int = 1
) -> Iterator[Encoded]:
    """The ids of `documents`, about a million characters at a time, the same for any `n_workers`.

    With each: how many documents end in it, and how many bytes of text it stands for.
    """
    groups = _group_parts(documents)
    if n_workers == 1:
        yield from (_encode_parts(group, tokenizer) for group in groups)
        return
    with tempfile.TemporaryDirectory() as folder, get_context().Pool(n_workers) as pool:
        path = Path(folder) / "tokenizer.json"
        tokenizer.save(path)  # a worker reads it once, which works however processes are started
        while some := list(islice(groups, 4 * n_workers)):
            yield from pool.starmap(_encode_in_worker, [(group, path) for group in some], 1)


def _encode_parts(parts: list[Part], tokenizer: Tokenizer) -> Encoded:
    ids, end = [], tokenizer.special_tokens.get(END_OF_TEXT)
    for text, is_end in parts:
        ids += tokenizer.encode_ordinary(text)
        ids += [end] if is_end and end is not None else []
    n_bytes = sum(len(text.encode("utf-8")) for text, _ in parts)
    return ids, sum(is_end for _, is_end in parts), n_bytes


_load_once = lru_cache(maxsize=1)(load_tokenizer)  # a worker is given many groups


def _encode_in_worker(parts: list[Part], path: Path) -> Encoded:
    return _encode_parts(parts, _load_once(path))


def _group_parts(documents: Iterable[Document]) -> Iterator[list[Part]]:
    """The texts in groups of about a million characters, cut where no token can go across."""
    group, size = [], 0
    for part in _cut_parts(iter(documents)):
        group.append(part)
        size += len(part[0]) + 1
        if size >= BLOCK:
            yield group
            group, size = [], 0
    if group:
        yield group


def _cut_parts(documents: Iterator[Document]) -> Iterator[Part]:
    for first in documents:
        blocks = safe_blocks(_joined(first, documents), size=BLOCK)
        text = next(blocks, "")
        for block in blocks:
            yield text, False
            text = block
        yield text, True


def _joined(document: Document, rest: Iterator[Document]) -> Iterator[str]:
    """The text of `document`, and of those of the `rest` that go on with it."""
    yield document.text
    while not document.is_end:
        document = next(rest)  # the last piece of a text is an end
        yield document.text


def _npy_path(path: Path | str) -> Path:
    if Path(path).suffix != ".npy":
        remedy = "Call it NAME.npy; NAME.json is beside it."
        raise LessonsError("not the name of a token file", where=str(path), remedy=remedy)
    return Path(path)
