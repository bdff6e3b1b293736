"""Token files: a corpus as token ids, computed once and from then on mapped into memory. Lesson 4.

NAME.npy is an array as `np.save` writes it. NAME.json beside it says from which text and by which
tokenizer the ids were made, as SHA-256 hashes: ids mean nothing to another tokenizer.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from transformer_lessons.config import Count, CountOrZero, check_fields, config_from_dict
from transformer_lessons.data.documents import END_OF_TEXT, encode_documents, separate_documents
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import read_documents
from transformer_lessons.support.files import new_file, read_json, replace_file, sha256
from transformer_lessons.tokenizers.tokenizer import Tokenizer, fingerprint


@dataclass(frozen=True)
class TokenFacts:
    """What a token file says about itself."""

    n_vocab: Count  # every id is below it
    end_of_text: CountOrZero | None  # the id that ends each document
    tokenizer_sha256: str  # `fingerprint` of the tokenizer
    source_sha256: str  # of the file that the text was in
    separator: str = ""  # at which that text was split into documents, if it was
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
    separator: str | None = None,
    report: Callable[[int, int], None] = lambda n_bytes, n_tokens: None,
) -> TokenFile:
    """Encode the documents of the file `source` to `path`, a .npy file: see `encode_documents`.

    With a `separator`, each text is split into documents there. Anything that can't be read raises
    `LessonsError`, and then `path` is as it was. `report` is called with the bytes of text and the
    tokens made so far.
    """
    source, path = Path(source), _npy_path(path)
    documents, end = read_documents([source]), tokenizer.special_tokens.get(END_OF_TEXT)
    if separator is not None:
        documents = separate_documents(documents, separator)
    hashes = fingerprint(tokenizer), sha256(source)
    facts = TokenFacts(tokenizer.n_vocab, end, *hashes, separator or "")
    counts = np.zeros(3, np.int64)  # documents, bytes and tokens so far
    with new_file(path) as file:
        header = {"descr": facts.dtype.str, "fortran_order": False, "shape": (0,)}
        np.lib.format.write_array_header_1_0(file, header)
        for document, ids in encode_documents(documents, tokenizer):
            file.write(np.array(ids, facts.dtype).tobytes())
            counts += document.is_end, len(document.text.encode("utf-8")), len(ids)
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


def _npy_path(path: Path | str) -> Path:
    if Path(path).suffix != ".npy":
        remedy = "Call it NAME.npy; NAME.json is beside it."
        raise LessonsError("not the name of a token file", where=str(path), remedy=remedy)
    return Path(path)
