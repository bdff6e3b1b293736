"""What a run of `prepare` has done so far, kept beside its work so that a later run can go on.

About once a second the files are brought to the disk, and then checkpoint.json says how long they
are. Whoever goes on cuts off what came after, reads the input again from its start, which is quick,
and passes over as many documents and files as were done. Their hash must be the same as before.
"""

import hashlib
import json
import time
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, astuple
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from transformer_lessons.data.config import DataConfig
from transformer_lessons.data.deduplication import N_BANDS, ExactDuplicates, NearDuplicates
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import Document, Dropped
from transformer_lessons.support.files import replace_file
from transformer_lessons.support.output_folder import CHECKPOINT, JsonLines

FORMAT = "transformer_lessons/checkpoint-1"
SAVE_EVERY = 1.0  # seconds of work that a killed run can lose, about
NOTES = ("exact.jsonl", "near.jsonl", "inputs.jsonl")
START_ANEW = "Without --resume, and with an empty output folder, it starts anew."


class RecordedExact(ExactDuplicates):
    """`ExactDuplicates` that writes down what it remembers, and starts with what is there."""

    def __init__(self, file: JsonLines) -> None:
        super().__init__()
        self.file = file
        self.sources = {bytes.fromhex(line["sha256"]): line["source"] for line in file.lines()}

    def add(self, text: str, source: str) -> str | None:
        """The source of the earlier text that equals this one; None, and written down, if new."""
        earlier = super().add(text, source)
        if earlier is None:
            newest = next(reversed(self.sources))
            self.file.write({"sha256": newest.hex(), "source": source})
        return earlier


class RecordedNear(NearDuplicates):
    """`NearDuplicates` that writes down what it remembers, and starts with what is there."""

    def __init__(self, threshold: float, file: JsonLines) -> None:
        super().__init__(threshold)
        self.file = file
        for line in file.lines():
            rows = np.frombuffer(bytes.fromhex(line["signature"]), np.uint32).reshape(N_BANDS, -1)
            self.remember([row.tobytes() for row in rows], line["source"])

    def add(self, text: str, source: str) -> str | None:
        """The source of an earlier text much like this one; None, and written down, if new."""
        earlier = super().add(text, source)
        if earlier is None:
            newest = b"".join(self.signatures[-1])
            self.file.write({"signature": newest.hex(), "source": source})
        return earlier


class Journal:
    """The state of a run in `folder`: an earlier run's, if it left one there, or a new one.

    `counts` and `inputs` belong to the run: the counts are set to the earlier run's. Another config
    than the earlier run's, or files that are not as it left them, raise `LessonsError`.
    """

    def __init__(
        self,
        folder: Path,
        names: tuple[str, ...],
        config: DataConfig,
        counts: Any,
        inputs: dict[str, dict[str, Any]],
    ) -> None:
        self.folder, self.config, self.counts, self.inputs = folder, config, counts, inputs
        before = load_checkpoint(folder / CHECKPOINT)
        facts, self.trail_before = {}, ""
        if before:
            check_same(choices(config), before["choices"])
            facts, self.trail_before = before["files"], before["trail"]
            for name, value in before["counts"].items():
                setattr(counts, name, type(getattr(counts, name))(value))
        self.n_before, self.n_passed = counts.found, 0
        self.trail, self.saved = hashlib.sha256(), time.monotonic()
        with ExitStack() as stack:
            self.files: dict[str, JsonLines] = {}
            for name in (*names, *NOTES):
                file = JsonLines(folder / name, facts.get(name))
                self.files[name] = stack.enter_context(file)
            self.inputs_before = {
                line.pop("name"): line for line in self.files["inputs.jsonl"].lines()
            }
            self.exact = RecordedExact(self.files["exact.jsonl"])
            self.near = RecordedNear(config.similarity, self.files["near.jsonl"])
            self.stack = stack.pop_all()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def is_done(self, found: Document | Dropped) -> bool:
        """Whether the earlier run is through with what was found next.

        At the last such document, what was found must be what the earlier run has found.
        """
        self.trail.update(repr(astuple(found)).encode("utf-8", errors="surrogatepass"))
        self.n_passed += 1
        if self.n_passed == self.n_before:
            self.check_input()
        return self.n_passed <= self.n_before

    def check_input(self) -> None:
        """Raise `LessonsError` unless the input up to here is what the earlier run has read."""
        check_inputs(self.inputs, self.inputs_before)
        if self.trail.hexdigest() != self.trail_before:
            what = "the documents are not those of the run that was interrupted"
            raise LessonsError(what, where=str(self.folder.parent), remedy=START_ANEW)

    def write(self, name: str, record: Document | Dropped) -> None:
        """Write the last line of what was found last; `save`, if that was a while ago."""
        self.files[name].write(asdict(record))
        if time.monotonic() - self.saved >= SAVE_EVERY:
            self.save()
            self.saved = time.monotonic()

    def save(self) -> None:
        """Bring the files to the disk, and then write down how long they are."""
        noted = self.files["inputs.jsonl"]
        for name, facts in islice(self.inputs.items(), noted.n_lines, None):
            noted.write({"name": name, **facts})
        for file in self.files.values():
            file.flush()
        state = {
            "format": FORMAT,
            "choices": choices(self.config),
            "counts": vars(self.counts),
            "trail": self.trail.hexdigest(),
            "files": {name: file.facts() for name, file in self.files.items()},
        }
        text = json.dumps(state)
        replace_file(self.folder / CHECKPOINT, f"{text}\n{sha256_of(text)}\n")


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What `Journal.save` wrote to `path`; None when there is nothing."""
    if not path.exists():
        return None
    text, _, digest = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    if digest.strip() != sha256_of(text):
        raise LessonsError("the checkpoint is damaged", where=str(path), remedy=START_ANEW)
    state = json.loads(text)
    if state["format"] != FORMAT:
        what = f"format {state['format']!r} is not {FORMAT!r}"
        raise LessonsError(what, where=str(path), remedy=START_ANEW)
    return state


def choices(config: DataConfig) -> dict[str, Any]:
    """All that the output depends on beside the input: the config, and this Python's Unicode."""
    return json.loads(json.dumps({**config.to_dict(), "unicode": unicodedata.unidata_version}))


def check_same(now: dict[str, Any], before: dict[str, Any], where: str = "DataConfig") -> None:
    """Raise `LessonsError` for the first choice that is not what it was `before`.

    >>> check_same({"similarity": 0.8}, {"similarity": 0.8})
    """
    for name, value in now.items():
        if isinstance(value, dict):
            check_same(value, before[name], f"{where}.{name}")
        elif value != before[name]:
            what = f"{name} = {value}, but it was {before[name]} when the run was interrupted"
            raise LessonsError(what, where=f"{where}.{name}", remedy=START_ANEW)


def check_inputs(now: dict[str, Any], before: dict[str, Any]) -> None:
    """Raise `LessonsError` for the first file that is not what it was `before`."""
    for name in [*before, *now]:
        if before.get(name) != now.get(name):
            what = "this is not what it was when the run was interrupted"
            raise LessonsError(what, where=name, remedy=START_ANEW)


def sha256_of(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def passed_over(journal: Journal, documents: Iterator[Document]) -> Iterator[Document]:
    """The `documents` that the earlier run isn't through with."""
    for document in documents:
        if not journal.is_done(document):
            yield document
    if journal.n_passed < journal.n_before:  # the input ends before the place that was reached
        journal.check_input()
