"""`prepare`: from files to splits. Read, clean, judge, drop duplicates, split, and keep accounts.

The output folder holds train.jsonl, validation.jsonl and test.jsonl, one {"text", "source"} a line;
dropped.jsonl, one {"source", "reason", "detail"} a line; and manifest.json, which says how all that
came about. It is there whole or not at all. The same files and config give the same bytes.
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from transformer_lessons import cli
from transformer_lessons.cli.display import progress_line
from transformer_lessons.cli.options.data import Prepare
from transformer_lessons.data.cleaning import clean
from transformer_lessons.data.config import DataConfig
from transformer_lessons.data.deduplication import ExactDuplicates, NearDuplicates
from transformer_lessons.data.quality import check_quality
from transformer_lessons.data.split import SPLITS, split_of
from transformer_lessons.errors import LessonsError
from transformer_lessons.support import corpus
from transformer_lessons.support import documents as reading
from transformer_lessons.support.documents import Document, Dropped, name_of
from transformer_lessons.support.files import new_folder, sha256, write_json

FORMAT = "transformer_lessons/data-1"
OUTPUTS = (*(f"{split}.jsonl" for split in SPLITS), "dropped.jsonl")
CORPORA: dict[str, Callable[[], Iterable[Document]]] = {
    "documentation": corpus.python_topics,
    "sources": corpus.python_sources,
}


def run(options: Prepare) -> int:
    """Prepare, and say what came of it; returns the exit code."""
    if not options.paths and options.corpus == "none":
        raise LessonsError("give files or folders to read, or --corpus documentation")
    console, documents = cli.PlainConsole(), CORPORA.get(options.corpus, tuple)()
    with progress_line(console) as show:
        words = "{0.found:,} documents found, {1:,} kept"
        given = options.paths, options.out, options.data
        manifest = prepare(*given, lambda n: show(words.format(n, n.kept.total())), documents)
    counts = manifest["counts"]
    rows = {"found": counts["found"]} | {f"dropped: {k}": n for k, n in counts["dropped"].items()}
    rows |= {f"kept: {split}": n for split, n in counts["kept"].items()}
    rows |= {f"changed by {step}": n for step, n in counts["changed"].items()}
    console.print_rows("documents", rows)
    dropped = options.out / "dropped.jsonl"
    console.print(f"Written to {options.out}; what was dropped is in {dropped}", soft_wrap=True)
    return 0


@dataclass
class Counts:
    """The accounts of a run: what was found is what was kept and what was dropped."""

    characters: int = 0  # of the documents found
    kept: Counter[str] = field(default_factory=Counter)  # by split
    dropped: Counter[str] = field(default_factory=Counter)  # by reason
    changed: Counter[str] = field(default_factory=Counter)  # by cleaning step

    @property
    def found(self) -> int:
        """Documents, and files that were passed over."""
        return self.kept.total() + self.dropped.total()


def prepare(
    paths: Sequence[Path | str],
    out: Path | str,
    config: DataConfig,
    report: Callable[[Counts], None] = lambda counts: None,
    documents: Iterable[Document] = (),
) -> dict[str, Any]:
    """Write the documents below `paths`, after `documents` if any, to the folder `out`, by split.

    Returns the manifest. `out` must be new or empty. `report` is called at the start and after each
    document. No document kept, or a place that can't be read or written, raises `LessonsError`.
    """
    out, counts, documents = Path(out), Counts(), list(documents)
    inputs = _hashes(paths, out, documents)
    report(counts)
    with new_folder(out) as folder:
        with ExitStack() as stack:
            files = {name: stack.enter_context((folder / name).open("xb")) for name in OUTPUTS}

            def write(name: str, record: dict[str, str]) -> None:
                line = json.dumps(record, ensure_ascii=False) + "\n"
                # Half a character, as in a strange file name, becomes \udcff: JSON for the same.
                files[name].write(line.encode("utf-8", errors="backslashreplace"))
                report(counts)

            def drop(dropped: Dropped) -> None:
                counts.dropped[dropped.reason] += 1
                write("dropped.jsonl", asdict(dropped))

            found = chain(documents, reading.read_documents(paths, drop))
            for split, document in refine(found, config, counts, drop):
                write(f"{split}.jsonl", {"text": document.text, "source": document.source})
        if not counts.kept:
            reasons = ", ".join(f"{reason}: {n}" for reason, n in sorted(counts.dropped.items()))
            what = f"of {counts.found} documents and files none was kept"
            raise LessonsError(what, remedy=f"Dropped: {reasons or 'nothing'}.")
        manifest = _manifest(config, counts, folder) | {"inputs": inputs}
        write_json(folder / "manifest.json", manifest, indent=2)
    return manifest


def _hashes(
    paths: Sequence[Path | str], out: Path, documents: Sequence[Document]
) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file that will be opened, and of the `documents` together."""
    for path in map(Path, paths):
        if out.resolve().is_relative_to(path.resolve()):
            what, remedy = "the output folder is in an input folder", "Choose one outside of it."
            raise LessonsError(what, where=name_of(out), remedy=remedy)
    inputs = {}
    for path in reading.find_files(paths, report=lambda dropped: None):
        with suppress(OSError, LessonsError):  # who reads it will report it
            inputs[name_of(path)] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    if documents:
        texts = [document.text.encode("utf-8", "surrogatepass") for document in documents]
        hashes = b"".join(hashlib.sha256(text).digest() for text in texts)
        digest = hashlib.sha256(hashes).hexdigest()
        inputs["documents"] = {"bytes": sum(map(len, texts)), "sha256": digest}
    return inputs


def _manifest(config: DataConfig, counts: Counts, folder: Path) -> dict[str, Any]:
    """What a run did and what it wrote, in an order that is the same in each run."""
    outputs = {}
    for name in OUTPUTS:
        kind = name.removesuffix(".jsonl")
        n_lines = counts.dropped.total() if kind == "dropped" else counts.kept[kind]
        facts = {"lines": n_lines, "bytes": (folder / name).stat().st_size}
        outputs[name] = facts | {"sha256": sha256(folder / name)}
    accounts: dict[str, Any] = {"found": counts.found, "characters": counts.characters}
    accounts["kept"] = {split: counts.kept[split] for split in SPLITS}
    accounts |= {name: dict(sorted(vars(counts)[name].items())) for name in ("dropped", "changed")}
    # NFC follows from the version of Unicode.
    head = {"format": FORMAT, "unicode": unicodedata.unidata_version, "config": config.to_dict()}
    return head | {"counts": accounts, "outputs": outputs}


def refine(
    documents: Iterable[Document],
    config: DataConfig,
    counts: Counts,
    drop: Callable[[Dropped], None],
) -> Iterator[tuple[str, Document]]:
    """The documents worth keeping, cleaned, each with its split; the others go to `drop`."""
    exact, near = ExactDuplicates(), NearDuplicates(config.similarity)
    for document in documents:
        counts.characters += len(document.text)
        text, changed = clean(document.text) if config.cleaning else (document.text, [])
        counts.changed.update(changed)
        if not text.strip():
            drop(Dropped(document.source, "empty"))
        elif re.search("[\ud800-\udfff]", text):  # half a character, which no file can hold
            drop(Dropped(document.source, "not UTF-8"))
        elif bad := check_quality(text, config):
            drop(Dropped(document.source, *bad))
        elif config.duplicates != "keep" and (twin := exact.add(text, document.source)):
            drop(Dropped(document.source, "duplicate", f"of {twin}"))
        elif config.duplicates == "near" and (twin := near.add(text, document.source)):
            drop(Dropped(document.source, "near duplicate", f"of {twin}"))
        else:
            split = split_of(text, config.validation, config.test, config.seed)
            counts.kept[split] += 1
            yield split, Document(text, document.source)
