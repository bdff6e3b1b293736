"""From files to splits: read, clean, judge, drop duplicates, split, write, and keep the accounts.

The output folder holds train.jsonl, validation.jsonl and test.jsonl, one {"text", "source"} a line;
dropped.jsonl, one {"source", "reason", "detail"} a line; and manifest.json, which says how all that
came about. The manifest is put there last: where there is one, the folder is complete. The same
files and config give the same bytes.
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from transformer_lessons.data.cleaning import clean
from transformer_lessons.data.config import DataConfig
from transformer_lessons.data.deduplication import ExactDuplicates, NearDuplicates
from transformer_lessons.data.journal import (
    START_ANEW,
    Journal,
    check_inputs,
    check_same,
    choices,
    passed_over,
)
from transformer_lessons.data.quality import check_quality
from transformer_lessons.data.split import SPLITS, split_of
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import (
    Document,
    Dropped,
    Report,
    find_files,
    name_of,
    read_file,
)
from transformer_lessons.support.files import read_json
from transformer_lessons.support.output_folder import remove_unfinished, unfinished_folder

FORMAT = "transformer_lessons/data-1"
OUTPUTS = (*(f"{split}.jsonl" for split in SPLITS), "dropped.jsonl")
MANIFEST = "manifest.json"


@dataclass
class Counts:
    """The accounts of a run: what was found = what was kept + what was dropped."""

    found: int = 0  # documents, and files that were passed over
    characters: int = 0  # of the documents found
    kept: Counter[str] = field(default_factory=Counter)  # by split
    dropped: Counter[str] = field(default_factory=Counter)  # by reason
    changed: Counter[str] = field(default_factory=Counter)  # by cleaning step


@dataclass(frozen=True)
class Manifest:
    """What a run was given, what it did and what it wrote."""

    config: DataConfig
    counts: Counts
    inputs: dict[str, dict[str, Any]]  # name -> bytes and sha256
    outputs: dict[str, dict[str, Any]]  # name -> lines, bytes and sha256

    def to_dict(self) -> dict[str, Any]:
        """The manifest as plain values, in an order that is the same in each run."""
        counts = {
            "found": self.counts.found,
            "characters": self.counts.characters,
            "kept": {split: self.counts.kept[split] for split in SPLITS},
            "dropped": dict(sorted(self.counts.dropped.items())),
            "changed": dict(sorted(self.counts.changed.items())),
        }
        return {
            "format": FORMAT,
            "unicode": unicodedata.unidata_version,  # NFC follows from it
            "config": self.config.to_dict(),
            "counts": counts,
            "outputs": self.outputs,
            "inputs": self.inputs,
        }


def prepare(
    paths: Sequence[Path | str],
    out: Path | str,
    config: DataConfig,
    report: Callable[[Counts], None] = lambda counts: None,
    documents: Iterable[Document] = (),
    resume: bool = False,
) -> Manifest:
    """Write the documents below `paths`, after `documents` if any, to the folder `out`, by split.

    `out` must be new or empty. A run that was killed leaves a folder without a manifest; the next
    one starts afresh there or, with `resume`, goes on, to the same bytes. `report` is called at the
    start and after each document. No document kept, a place that can't be read or written, and,
    with `resume`, other input or choices than before raise `LessonsError`.
    """
    out, counts, inputs = Path(out), Counts(), {}
    find_files(paths, report=lambda dropped: None)  # raises for a path that doesn't exist
    check_apart(paths, out)
    if resume and (out / MANIFEST).exists():
        return finished_run(paths, out, config, documents)
    with unfinished_folder(out, (*OUTPUTS, MANIFEST), resume) as folder:
        with Journal(folder, OUTPUTS, config, counts, inputs) as journal:
            report(counts)

            def drop(dropped: Dropped) -> None:
                counts.dropped[dropped.reason] += 1
                journal.write("dropped.jsonl", dropped)
                report(counts)

            def skip(dropped: Dropped) -> None:
                if not journal.is_done(dropped):
                    counts.found += 1
                    drop(dropped)

            found = chain(hash_documents(documents, inputs), read_and_hash(paths, skip, inputs))
            new, seen = passed_over(journal, found), (journal.exact, journal.near)
            for split, document in refine(new, config, counts, drop, seen):
                journal.write(f"{split}.jsonl", document)
                report(counts)
        check_any_kept(counts)
        outputs = {name: journal.files[name].facts() for name in OUTPUTS}
        manifest = Manifest(config, counts, inputs, outputs)
        text = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    return manifest


def refine(
    documents: Iterable[Document],
    config: DataConfig,
    counts: Counts,
    drop: Report,
    seen: tuple[ExactDuplicates, NearDuplicates] | None = None,
) -> Iterator[tuple[str, Document]]:
    """The documents worth keeping, cleaned, each with its split; the others go to `drop`.

    `seen` are the texts that came before, if there were any.

    >>> found = [Document(" ".join(map(str, range(99))), "a.txt"), Document("One.", "b.txt")]
    >>> [document.source for _, document in refine(found, DataConfig(), Counts(), drop=print)]
    Dropped(source='b.txt', reason='too short', detail='4 characters')
    ['a.txt']
    """
    exact, near = seen or (ExactDuplicates(), NearDuplicates(config.similarity))
    for document in documents:
        counts.found += 1
        counts.characters += len(document.text)
        text, changed = clean(document.text, config.cleaning)
        counts.changed.update(changed)
        if not text.strip():
            drop(Dropped(document.source, "empty"))
        elif re.search("[\ud800-\udfff]", text):  # half a character, which no file can hold
            drop(Dropped(document.source, "not UTF-8"))
        elif bad := check_quality(text, config.quality):
            drop(Dropped(document.source, *bad))
        elif config.duplicates != "keep" and (twin := exact.add(text, document.source)):
            drop(Dropped(document.source, "duplicate", f"of {twin}"))
        elif config.duplicates == "near" and (twin := near.add(text, document.source)):
            drop(Dropped(document.source, "near duplicate", f"of {twin}"))
        else:
            split = split_of(text, config.validation, config.test, config.seed)
            counts.kept[split] += 1
            yield split, Document(text, document.source)


def read_and_hash(
    paths: Sequence[Path | str], report: Report, inputs: dict[str, dict[str, Any]]
) -> Iterator[Document]:
    """`read_documents`, with size and SHA-256 of every file it opens written into `inputs`."""
    for path in find_files(paths, report):
        with suppress(OSError), open(path, "rb") as file:  # read_file will report it
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            inputs[name_of(path)] = {"bytes": file.tell(), "sha256": digest}
        yield from read_file(path, report)


def hash_documents(
    documents: Iterable[Document], inputs: dict[str, dict[str, Any]]
) -> Iterator[Document]:
    """The `documents`; once they are through, their size and SHA-256 are in `inputs`."""
    sha256, n_bytes = hashlib.sha256(), 0
    for document in documents:
        data = document.text.encode("utf-8", errors="surrogatepass")
        sha256.update(hashlib.sha256(data).digest())
        n_bytes += len(data)
        yield document
    if n_bytes:
        inputs["documents"] = {"bytes": n_bytes, "sha256": sha256.hexdigest()}


def finished_run(
    paths: Sequence[Path | str], out: Path, config: DataConfig, documents: Iterable[Document]
) -> Manifest:
    """The manifest in `out`, when it is of the same input and config; else `LessonsError`."""
    file, inputs = out / MANIFEST, {}
    values = read_json(file)
    try:
        before, counts, outputs = values["config"], Counts(**values["counts"]), values["outputs"]
        inputs_before, unicode = values["inputs"], values["unicode"]
        counts.dropped, counts.changed = Counter(counts.dropped), Counter(counts.changed)
        counts.kept = Counter(counts.kept)
    except (TypeError, KeyError, ValueError):
        raise LessonsError("not a manifest", where=str(file), remedy=START_ANEW) from None
    check_same(choices(config), {**DataConfig.from_dict(before).to_dict(), "unicode": unicode})
    for _ in chain(
        hash_documents(documents, inputs), read_and_hash(paths, lambda dropped: None, inputs)
    ):
        pass
    check_inputs(inputs, inputs_before)
    remove_unfinished(out)
    return Manifest(config, counts, inputs, outputs)


def check_apart(paths: Sequence[Path | str], out: Path) -> None:
    """Raise `LessonsError` when `out` lies in a folder that is read."""
    for path in paths:
        if out.resolve().is_relative_to(Path(path).resolve()):
            remedy = "Choose an output folder outside of it."
            where = f"{name_of(out)} in {name_of(Path(path))}"
            raise LessonsError(
                "the output folder is in an input folder", where=where, remedy=remedy
            )


def check_any_kept(counts: Counts) -> None:
    """Raise `LessonsError` when no document is left, with what became of those found."""
    if not counts.kept:
        reasons = ", ".join(f"{reason}: {n}" for reason, n in sorted(counts.dropped.items()))
        what = f"of {counts.found} documents and files none was kept"
        remedy = f"Dropped: {reasons}." if reasons else "Give some text."
        raise LessonsError(what, remedy=remedy)
