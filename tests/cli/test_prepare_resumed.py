"""`prepare` resumed: after any interruption, the bytes of a run that was not interrupted."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_lessons.cli import preparing as prepare_module
from transformer_lessons.cli.preparing import prepare
from transformer_lessons.data import journal
from transformer_lessons.data.config import DataConfig
from transformer_lessons.data.journal import Journal
from transformer_lessons.errors import LessonsError
from transformer_lessons.support import output_folder
from transformer_lessons.support.documents import Document

FILES = ["dropped.jsonl", "manifest.json", "test.jsonl", "train.jsonl", "validation.jsonl"]
SENTENCE = "Number {} is followed by {}, and nobody has ever found the last one of them all. "
CONFIG = DataConfig(validation=0.3, test=0.3)


def text_of(number):
    """A text that is like no other."""
    facts = [number * 1000 + n for n in range(12)]
    return "".join(SENTENCE.format(n * n, n * n * n) for n in facts)


def variant(number, kind):
    """A text, a copy of it, two that are nearly the same, or one that is dropped."""
    endings = {"as it is": "", "loud": "", "nearly": "The end.", "nearly too": "The very end."}
    text = text_of(number) + endings.get(kind, "")
    return {"loud": text.upper(), "short": f"Only {number}."}.get(kind, text)


def everything_in(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def source(tmp_path):
    """Files with 30 documents of all kinds, and files that are passed over between them."""
    folder, dice = tmp_path / "in", random.Random(0)
    folder.mkdir()
    kinds = ("as it is", "loud", "nearly", "nearly too", "short")
    for name in "abc":
        texts = [variant(dice.randrange(6), dice.choice(kinds)) for _ in range(10)]
        lines = [json.dumps({"text": text + "  \r\n"}) + "\n" for text in texts]
        (folder / f"{name}.jsonl").write_text("".join(lines))
        (folder / f"{name}.bin").write_bytes(b"x")
        (folder / f"{name}.md").write_bytes(b"\xff")
    return folder


@pytest.fixture
def every_time(monkeypatch):
    """A checkpoint after each document; the disk need not keep up."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(journal, "SAVE_EVERY", 0.0)


def interrupt_after(n):
    """A report that stops the run when `n` documents more are through."""
    calls = []

    def report(counts):
        calls.append(counts)
        if len(calls) > n:
            raise KeyboardInterrupt

    return report


def interrupted(n, paths, out, documents=()):
    """A run that is stopped after `n` more documents; whether it was, and did not end before."""
    try:
        prepare(paths, out, CONFIG, interrupt_after(n), documents, resume=True)
    except KeyboardInterrupt:
        return True
    return False


@pytest.mark.usefixtures("every_time")
def test_interrupted_anywhere_the_bytes_are_the_same(source, tmp_path):  # SPEC S1
    expected = prepare([source], tmp_path / "whole", CONFIG)
    assert set(expected.counts.dropped) >= {"duplicate", "near duplicate", "too short", "not UTF-8"}
    assert len(expected.counts.kept) == 3
    whole = everything_in(tmp_path / "whole")
    for n in range(expected.counts.found):
        out = tmp_path / str(n)
        assert interrupted(n, [source], out)
        assert "manifest.json" not in everything_in_below(out)
        manifest = prepare([source], out, CONFIG, resume=True)
        assert everything_in(out) == whole
        assert manifest == expected
        shutil.rmtree(out)


def everything_in_below(out):
    return {path.name for path in out.rglob("*")}


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(["as it is", "loud", "nearly", "nearly too"])),
        min_size=1,
        max_size=15,
    ),
    cuts=st.lists(st.integers(0, 8), max_size=4),
    seed=st.integers(0, 99),
)
def test_duplicates_are_found_across_interruptions(tmp_path_factory, texts, cuts, seed):  # SPEC S1
    """With checkpoints now and then, so that some work is always lost, and done again."""
    folder, dice, save = tmp_path_factory.mktemp("cut"), random.Random(seed), Journal.save
    documents = [Document(variant(*text), f"document {n}") for n, text in enumerate(texts)]
    prepare([], folder / "whole", CONFIG, documents=documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(journal, "SAVE_EVERY", 0.0)
        patch.setattr(Journal, "save", lambda self: dice.random() < 0.6 and save(self))
        for cut in cuts:
            interrupted(cut, [], folder / "out", iter(documents))
        prepare([], folder / "out", CONFIG, documents=iter(documents), resume=True)
    assert everything_in(folder / "out") == everything_in(folder / "whole")


@pytest.mark.usefixtures("every_time")
def test_what_was_done_is_not_done_again(source, tmp_path, monkeypatch):
    cleaned, clean = [], prepare_module.clean
    monkeypatch.setattr(
        prepare_module, "clean", lambda text, steps: cleaned.append(text) or clean(text, steps)
    )
    assert interrupted(25, [source], tmp_path / "out")
    n_before, seen = len(cleaned), []
    prepare([source], tmp_path / "out", CONFIG, lambda c: seen.append(c.found), resume=True)
    assert 15 < n_before < len(cleaned) == 30
    assert seen == list(range(25, 37))  # the first report says where it starts


def test_nothing_to_resume_is_a_plain_run(source, tmp_path):
    prepare([source], tmp_path / "plain", CONFIG)
    prepare([source], tmp_path / "resumed", CONFIG, resume=True)
    assert everything_in(tmp_path / "resumed") == everything_in(tmp_path / "plain")
    # A run that was stopped before its first checkpoint has left nothing.
    assert interrupted(20, [source], tmp_path / "out")
    assert everything_in_below(tmp_path / "out") == set()


@pytest.mark.usefixtures("every_time")
def test_without_resume_it_starts_anew_and_keeps_nothing(source, tmp_path):
    out = tmp_path / "out"
    assert interrupted(9, [source], out)
    assert everything_in_below(out)
    seen = []
    prepare([source], out, DataConfig(), lambda counts: seen.append(counts.found))
    assert seen[0] == 0
    assert sorted(everything_in(out)) == FILES
    with pytest.raises(KeyboardInterrupt):
        prepare([source], tmp_path / "new", CONFIG, interrupt_after(9))
    assert everything_in_below(tmp_path / "new") == set()


@pytest.mark.usefixtures("every_time")
@pytest.mark.parametrize("n_moved", range(6))
def test_killed_while_its_files_are_put_in_place(source, tmp_path, monkeypatch, n_moved):
    out, moved, real = tmp_path / "out", [], os.replace

    def stop(start, target):
        if str(target).startswith(str(out)) and ".unfinished" not in str(target):
            if len(moved) == n_moved:
                raise KeyboardInterrupt
            moved.append(target)
        real(start, target)

    prepare([source], tmp_path / "whole", CONFIG)
    monkeypatch.setattr(output_folder.os, "replace", stop)
    monkeypatch.setattr(output_folder.shutil, "rmtree", lambda *_, **__: None)  # killed: no tidying
    try:
        prepare([source], out, CONFIG)
    except KeyboardInterrupt:
        assert n_moved < 5
    monkeypatch.setattr(output_folder.os, "replace", real)
    monkeypatch.undo()
    assert len(list(out.iterdir())) == n_moved + 1
    prepare([source], out, CONFIG, resume=True)
    assert everything_in(out) == everything_in(tmp_path / "whole")


# Refusals


def refusal(call):
    with pytest.raises(LessonsError) as caught:
        call()
    return caught.value


@pytest.fixture
def half(source, tmp_path, every_time):
    """A run that stopped after 20 of 36; in b.jsonl, that is."""
    assert interrupted(20, [source], tmp_path / "out")
    return tmp_path / "out"


def test_other_choices_are_refused_by_name(source, half):  # SPEC S9
    others = {
        "similarity": DataConfig(validation=0.3, test=0.3, similarity=0.9),
        "cleaning": DataConfig(validation=0.3, test=0.3, cleaning=()),
        "seed": DataConfig(validation=0.3, test=0.3, seed=1),
        "validation": DataConfig(test=0.3),
    }
    for name, config in others.items():
        error = refusal(lambda config=config: prepare([source], half, config, resume=True))
        assert error.where == f"DataConfig.{name}"
        assert "when the run was interrupted" in error.what
    values = CONFIG.to_dict()
    values["quality"] = values["quality"] | {"min_characters": 7}
    config = DataConfig.from_dict(values)
    error = refusal(lambda: prepare([source], half, config, resume=True))
    assert error.where == "DataConfig.quality.min_characters"
    # A refusal changes nothing: with the same choices the run can still go on.
    prepare([source], half, CONFIG, resume=True)
    assert sorted(everything_in(half)) == FILES


def test_another_unicode_is_refused(source, half, monkeypatch):  # SPEC S9
    monkeypatch.setattr(journal.unicodedata, "unidata_version", "99.0")
    assert "unicode = 99.0" in refusal(lambda: prepare([source], half, CONFIG, resume=True)).what


def change_first(folder):
    lines = (folder / "a.jsonl").read_text().splitlines(keepends=True)
    (folder / "a.jsonl").write_text("".join(reversed(lines)))


def change_behind_the_place(folder):
    with (folder / "b.jsonl").open("a") as file:
        file.write(json.dumps({"text": text_of(99)}) + "\n")


CHANGES = {
    "changed": (change_first, "a.jsonl"),
    "changed further on": (change_behind_the_place, "b.jsonl"),
    "removed": (lambda folder: (folder / "a.md").unlink(), "a.md"),
    "added": (lambda folder: (folder / "0.md").write_text(text_of(77)), "0.md"),
    "all removed": (lambda folder: [path.unlink() for path in folder.glob("*.*l")], "a.jsonl"),
    "one that is passed over": (lambda folder: (folder / "0.bin").write_text(""), "out"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_other_input_is_refused_by_name(source, half, kind):  # SPEC S9
    change, name = CHANGES[kind]
    change(source)
    error = refusal(lambda: prepare([source], half, CONFIG, resume=True))
    assert error.where.endswith(name)
    assert "interrupted" in error.what
    assert "--resume" in error.remedy


@pytest.mark.usefixtures("every_time")
def test_other_documents_in_memory_are_refused(tmp_path):  # SPEC S9
    documents = [Document(text_of(n), f"document {n}") for n in range(9)]
    for n, others in enumerate((documents[1:], documents[:4], [documents[0], *documents])):
        assert interrupted(6, [], tmp_path / str(n), documents)
        call = lambda n=n, others=others: prepare(  # noqa: E731
            [], tmp_path / str(n), CONFIG, documents=others, resume=True
        )
        assert "interrupted" in refusal(call).what


@pytest.mark.parametrize("name", ["train.jsonl", "dropped.jsonl", "near.jsonl", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "removed"])
def test_a_damaged_folder_is_refused_by_name(source, half, name, damage):  # SPEC S9
    (file,) = half.glob(f".unfinished-*/{name}")
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data if damage == "flipped" else data[: len(data) // 2])
    if damage == "removed":
        file.unlink()
    if (name, damage) == ("checkpoint.json", "removed"):  # then there is nothing to resume
        prepare([source], half, CONFIG, resume=True)
        assert sorted(everything_in(half)) == FILES
        return
    error = refusal(lambda: prepare([source], half, CONFIG, resume=True))
    assert error.where.endswith(name)


def test_files_of_others_are_not_touched(source, half):  # SPEC S1
    (half / "notes.txt").write_text("mine")
    before = everything_in_below(half)
    error = refusal(lambda: prepare([source], half, CONFIG, resume=True))
    assert error.what == "the folder is not empty: it holds notes.txt"
    assert everything_in_below(half) == before


def test_a_finished_run_is_left_as_it_is(source, tmp_path):  # SPEC S1
    out, documents = tmp_path / "out", [Document(text_of(50), "in memory")]
    first = prepare([source], out, CONFIG, documents=documents)
    before = everything_in(out)
    again = prepare([source], out, CONFIG, documents=iter(documents), resume=True)
    assert again == first
    assert again.to_dict() == first.to_dict()
    error = refusal(lambda: prepare([source], out, DataConfig(), documents=documents, resume=True))
    assert error.where == "DataConfig.validation"
    error = refusal(lambda: prepare([source], out, CONFIG, resume=True))
    assert error.where == "documents"
    assert everything_in(out) == before
    for text in (
        "{",
        "[]",
        "{}",
        '{"config": 1, "counts": {"x": 1}}',
        before["manifest.json"][:99],
    ):
        (out / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        error = refusal(lambda: prepare([source], out, CONFIG, resume=True))
        assert error.where.endswith("manifest.json") or "manifest" in str(error)


# Killed

CODE = """
import sys
from transformer_lessons.data import journal
from transformer_lessons.data.config import DataConfig
from transformer_lessons.cli.preparing import prepare
journal.SAVE_EVERY = 0.05
prepare([sys.argv[1]], sys.argv[2], DataConfig(), resume=True)
"""


def start(source, out):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", CODE, str(source), str(out)]
    return subprocess.Popen(command, env=environment)


def n_found(out):
    """How many documents the last checkpoint counts; -1 before the first."""
    try:
        (path,) = out.glob(".unfinished-*/checkpoint.json")
        return json.loads(path.read_text().partition("\n")[0])["counts"]["found"]
    except (ValueError, OSError):  # none, or moved away as we look
        return -1


def test_five_kills_at_random_moments(tmp_path):  # SPEC S1
    source, out, dice = tmp_path / "in", tmp_path / "out", random.Random()
    source.mkdir()
    texts = [
        variant(dice.randrange(1500), dice.choice(["as it is", "nearly"])) for _ in range(2500)
    ]
    (source / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    prepare([source], tmp_path / "whole", DataConfig())
    places = []
    for _ in range(5):
        process, before = start(source, out), n_found(out)
        for _ in range(3000):
            if n_found(out) > before or process.poll() is not None:
                break
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        places.append(n_found(out))
    assert start(source, out).wait() == 0
    assert everything_in(out) == everything_in(tmp_path / "whole")
    assert places == sorted(set(places))  # each run went on, from where the one before it was
    assert places[0] > 0
