"""Token files: a corpus as token ids, computed once and from then on mapped into memory. Lesson 4.

NAME.npy is an array as `np.save` writes it. NAME.json beside it says from which text and by which
tokenizer the ids were made, as SHA-256 hashes: ids mean nothing to another tokenizer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transformer_lessons.data.documents import encode_documents, separate_documents
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import read_documents
from transformer_lessons.support.files import new_file, read_json, sha256, write_json
from transformer_lessons.tokenizers.tokenizer import Tokenizer, fingerprint

FACTS = ("tokenizer_sha256", "source_sha256", "separator", "n_documents", "n_bytes", "n_tokens")


@dataclass(frozen=True, eq=False)
class TokenFile:
    """An open token file: `ids` is an array on disk, of which only what is used is read."""

    path: Path
    facts: dict[str, Any]  # `FACTS` and their values
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
    `LessonsError`, and then `path` is as it was. `report` gets the bytes and tokens made so far.
    """
    path, source = Path(path), Path(source)
    if path.suffix != ".npy":
        remedy = "Call it NAME.npy; NAME.json is beside it."
        raise LessonsError("not the name of a token file", where=str(path), remedy=remedy)
    documents, hashes = read_documents([source]), (fingerprint(tokenizer), sha256(source))
    if separator is not None:
        documents = separate_documents(documents, separator)
    # Two bytes are enough for 65,536 different ids. In the header there is room for any length.
    dtype = "<u2" if tokenizer.n_vocab <= 65_536 else "<u4"
    header = {"descr": dtype, "fortran_order": False}
    n_documents = n_bytes = n_tokens = 0
    with new_file(path) as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (0,)})
        for document, ids in encode_documents(documents, tokenizer):
            file.write(np.array(ids, dtype).tobytes())
            n_documents, n_tokens = n_documents + document.is_end, n_tokens + len(ids)
            n_bytes += len(document.text.encode("utf-8"))
            report(n_bytes, n_tokens)
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header | {"shape": (n_tokens,)})
        path.with_suffix(".json").unlink(missing_ok=True)  # it was about other ids
    values = (*hashes, separator or "", n_documents, n_bytes, n_tokens)
    write_json(path.with_suffix(".json"), dict(zip(FACTS, values, strict=True)), indent=2)
    return open_tokens(path)


def open_tokens(path: Path | str, tokenizer: Tokenizer | None = None) -> TokenFile:
    """Map the token file `path`; with a `tokenizer`, only if its ids are that tokenizer's.

    A file that is damaged, cut short, something else, or without its facts raises `LessonsError`.
    """
    path, remedy = Path(path), "Encode the text again: `tokenizer encode`."
    facts = read_json(path.with_suffix(".json"))
    try:
        ids = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise LessonsError(f"can't read it: {error}", where=str(path), remedy=remedy) from None
    is_known = isinstance(facts, dict) and set(facts) == set(FACTS)
    if not is_known or ids.dtype not in ("<u2", "<u4") or ids.shape != (facts["n_tokens"],):
        what = f"{ids.dtype}{list(ids.shape)} is not what {path.with_suffix('.json').name} says"
        raise LessonsError(what, where=str(path), remedy=remedy)
    if tokenizer is not None and fingerprint(tokenizer) != facts["tokenizer_sha256"]:
        what, remedy = "the ids are another tokenizer's", "Use the tokenizer that it was made with."
        raise LessonsError(what, where=str(path), remedy=remedy)
    return TokenFile(path, facts, ids)
