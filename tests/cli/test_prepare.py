"""From files to splits: the accounts, the same bytes every time; and the command."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transformer_lessons.cli.prepare import prepare
from transformer_lessons.data.config import DataConfig
from transformer_lessons.data.split import SPLITS, split_of
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_sources, python_topics
from transformer_lessons.support.documents import Document
from transformer_lessons.support.files import read_json

FILES = [*(f"{split}.jsonl" for split in SPLITS), "dropped.jsonl", "manifest.json"]
SENTENCE = "Number {} is followed by {}, and nobody has ever found the last one of them all. "


def text_of(number):
    """A text that is like no other."""
    facts = [number * 1000 + n for n in range(12)]
    return "".join(SENTENCE.format(n * n, n * n * n) for n in facts)


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def everything_in(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def hostile(tmp_path):
    """A folder with one of each kind of trouble, and six documents that are fine."""
    folder = tmp_path / "hostile data"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret " * 99)
    (folder / "a.txt").write_text(text_of(1))
    (folder / "b crlf.txt").write_bytes(text_of(2).replace(". ", ".  \r\n").encode() + b"\0\0")
    (folder / "c copy.txt").write_text(text_of(1).upper())
    (folder / "d nearly.txt").write_text(text_of(1) + "The end.")
    (folder / "e empty.txt").write_bytes(b"")
    (folder / "f spaces.txt").write_bytes(b" \r\n\0 ")
    (folder / "g latin.txt").write_bytes(text_of(3).encode() + b"\xff" + text_of(4).encode())
    (folder / "h short.md").write_text("Too short.")
    (folder / "i link.txt").symlink_to("../secret.txt")
    (folder / "j.jsonl").write_text(
        json.dumps({"text": text_of(5), "source": "../../x"}) + '\n{"text": 5}\n'
    )
    (folder / "k.bin").write_bytes(b"\0" * 10)
    pq.write_table(pa.table({"text": [text_of(6), None]}), folder / "l.parquet")
    pq.write_table(pa.table({"txt": [text_of(7)]}), folder / "m no text.parquet")
    whole = (folder / "l.parquet").read_bytes()
    (folder / "n cut.parquet").write_bytes(whole[: len(whole) // 2])
    (folder / "sub" / "o.py").write_text(text_of(8))
    (folder / "sub" / "p loud.txt").write_text("buy now! " * 99)
    pq.write_table(pa.table({"id": [1], "text": [text_of(9)]}), folder / "sub" / "q.parquet")
    return folder


DROPPED = {
    "duplicate": 1,
    "empty": 3,
    "link out of the folder": 1,
    "near duplicate": 1,
    "no text": 1,
    "not UTF-8": 1,
    "not a kind of file that is read": 1,
    "repeats itself": 1,
    "too short": 1,
    "unreadable": 2,
}
KEPT = (
    "a.txt",
    "b crlf.txt",
    "j.jsonl, line 1",
    "l.parquet, row 1",
    "sub/o.py",
    "sub/q.parquet, row 1",
)


def test_everything_is_kept_or_dropped_by_name(hostile, tmp_path):  # SPEC S1 S9
    before = sorted(tmp_path.rglob("*"))
    manifest = prepare([hostile], tmp_path / "out", DataConfig())
    counts = manifest["counts"]
    assert counts["dropped"] == DROPPED
    assert sum(counts["kept"].values()) == len(KEPT)
    assert counts["found"] == sum(counts["kept"].values()) + sum(counts["dropped"].values())
    kept = [line for split in SPLITS for line in lines_of(tmp_path / "out" / f"{split}.jsonl")]
    assert sorted(line["source"] for line in kept) == sorted(f"{hostile}/{name}" for name in KEPT)
    dropped = lines_of(tmp_path / "out" / "dropped.jsonl")
    assert Counter(line["reason"] for line in dropped) == DROPPED
    found = {line["source"] for line in [*kept, *dropped]}
    assert len(found) == counts["found"]  # each has a name of its own
    assert "secret" not in (tmp_path / "out" / "train.jsonl").read_text()
    # Nothing is written but to the output folder, whatever the data say.
    new = set(tmp_path.rglob("*")) - set(before)
    assert new == {tmp_path / "out", *(tmp_path / "out" / name for name in FILES)}


def test_documents_are_cleaned_and_the_steps_counted(hostile, tmp_path):  # SPEC S1
    manifest = prepare([hostile / "b crlf.txt"], tmp_path / "out", DataConfig())
    (line,) = lines_of(tmp_path / "out" / "train.jsonl")
    assert line["text"] == text_of(2).replace(". ", ".\n").strip()
    steps = ("drop_control_characters", "normalize_line_ends", "collapse_white_space")
    assert manifest["counts"]["changed"] == dict.fromkeys(steps, 1)
    raw = prepare([hostile / "b crlf.txt"], tmp_path / "raw", DataConfig(cleaning=False))
    assert raw["counts"]["changed"] == {}
    (line,) = lines_of(tmp_path / "raw" / "train.jsonl")
    assert line["text"].encode() == (hostile / "b crlf.txt").read_bytes()


@pytest.mark.parametrize(("choice", "n_kept"), [("near", 6), ("exact", 7), ("keep", 8)])
def test_duplicates_are_dropped_as_far_as_asked(hostile, tmp_path, choice, n_kept):
    manifest = prepare([hostile], tmp_path / "out", DataConfig(duplicates=choice))
    assert sum(manifest["counts"]["kept"].values()) == n_kept
    details = {line["detail"] for line in lines_of(tmp_path / "out" / "dropped.jsonl")}
    assert (f"of {hostile}/a.txt" in details) == (choice != "keep")


def test_the_manifest_holds_the_hashes_of_all_that_went_in_and_out(hostile, tmp_path):  # SPEC S1
    config = DataConfig(validation=0.3, seed=5)
    manifest = prepare([hostile], tmp_path / "out", config)
    assert manifest == read_json(tmp_path / "out" / "manifest.json")
    assert DataConfig.from_dict(manifest["config"]) == config
    assert manifest["counts"]["dropped"] == DROPPED
    assert list(manifest["counts"]["kept"]) == list(SPLITS)
    for name, facts in manifest["outputs"].items():
        data = (tmp_path / "out" / name).read_bytes()
        assert facts["sha256"] == hashlib.sha256(data).hexdigest()
        assert (facts["bytes"], facts["lines"]) == (len(data), data.count(b"\n"))
    assert list(manifest["outputs"]) == FILES[:-1]
    for name, facts in manifest["inputs"].items():
        with open(name, "rb") as file:
            data = file.read()
        assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    opened = {path for path in hostile.rglob("*.*") if path.name not in ("i link.txt", "k.bin")}
    assert set(manifest["inputs"]) == {str(path) for path in opened}


def test_two_runs_write_the_same_bytes(hostile, tmp_path):  # SPEC S1
    """In processes with different hash seeds, so that no order comes from a set."""
    for seed in ("1", "2"):
        run_prepare(hostile, tmp_path / seed, PYTHONHASHSEED=seed)
    first, second = everything_in(tmp_path / "1"), everything_in(tmp_path / "2")
    assert list(first) == sorted(FILES)
    assert first == second


def test_the_split_of_a_document_does_not_depend_on_the_others(tmp_path):  # SPEC A5
    config = DataConfig(validation=0.3, test=0.3, seed=5)
    few = [Document(text_of(n), f"document {n}") for n in range(0, 60, 3)]
    many = [Document(text_of(n), f"document {n}") for n in reversed(range(60))]
    splits = []
    for name, documents in (("few", few), ("many", many)):
        prepare([], tmp_path / name, config, documents=documents)
        splits.append(
            {
                line["source"]: split
                for split in SPLITS
                for line in lines_of(tmp_path / name / f"{split}.jsonl")
            }
        )
    assert len(splits[0]) == len(few)
    assert len(splits[1]) == len(many)
    assert splits[0].items() <= splits[1].items()
    assert set(splits[0].values()) == set(SPLITS)
    for n in range(60):
        assert splits[1][f"document {n}"] == split_of(text_of(n).strip(), 0.3, 0.3, seed=5)


def test_documents_in_memory_are_in_the_manifest_too(tmp_path):
    documents = [Document(text_of(n) + "\ud800" * (n == 2), f"document {n}") for n in range(3)]
    manifests = [
        prepare([], tmp_path / str(n), DataConfig(), documents=some)
        for n, some in enumerate((documents, documents[:2], iter(documents)))
    ]
    hashes = [manifest["inputs"]["documents"]["sha256"] for manifest in manifests]
    assert hashes[0] == hashes[2] != hashes[1]
    assert manifests[0]["counts"]["dropped"] == {"not UTF-8": 1}


def test_the_report_sees_every_document(hostile, tmp_path):
    seen = []
    manifest = prepare(
        [hostile], tmp_path / "out", DataConfig(), lambda c: seen.append((c.found, c.characters))
    )
    assert seen == sorted(seen)
    assert seen[0] == (0, 0)
    counts = manifest["counts"]
    assert seen[-1] == (counts["found"], counts["characters"])
    assert len(seen) == counts["found"] + 1


@pytest.mark.parametrize("corpus", [python_topics, python_sources])
def test_the_embedded_corpus_is_kept_for_the_most_part(tmp_path, corpus):
    manifest = prepare([], tmp_path / "out", DataConfig(), documents=corpus())
    n_kept = sum(manifest["counts"]["kept"].values())
    assert n_kept > 0.8 * manifest["counts"]["found"]
    assert manifest["counts"]["characters"] > 300_000
    assert "unreadable" not in manifest["counts"]["dropped"]


def test_a_finished_folder_is_not_overwritten(hostile, tmp_path):
    prepare([hostile], tmp_path / "out", DataConfig())
    before = everything_in(tmp_path / "out")
    with pytest.raises(LessonsError, match="not empty"):
        prepare([hostile], tmp_path / "out", DataConfig())
    assert everything_in(tmp_path / "out") == before


def test_the_output_must_not_be_in_the_input(hostile, tmp_path):  # SPEC S9
    (tmp_path / "link").symlink_to(hostile)
    for out in (hostile, hostile / "out", tmp_path / "link" / "out", hostile / "sub" / ".." / "x"):
        with pytest.raises(LessonsError, match="the output folder is in an input folder"):
            prepare([hostile], out, DataConfig())
    assert not (hostile / "out").exists()


def test_nothing_kept_says_why(hostile, tmp_path):
    paths = [hostile / "e empty.txt", hostile / "h short.md", hostile / "n cut.parquet"]
    with pytest.raises(LessonsError) as caught:
        prepare(paths, tmp_path / "out", DataConfig())
    assert caught.value.what == "of 3 documents and files none was kept"
    assert caught.value.remedy == "Dropped: empty: 1, too short: 1, unreadable: 1."
    assert not (tmp_path / "out").exists()


def test_a_path_that_is_not_there_raises_before_anything_is_made(tmp_path):
    with pytest.raises(LessonsError, match="no such file or folder"):
        prepare([tmp_path / "x"], tmp_path / "out", DataConfig())
    assert not (tmp_path / "out").exists()


CODE = """
import resource, sys
from transformer_lessons.data.config import DataConfig
from transformer_lessons.cli.prepare import prepare
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
prepare([sys.argv[1]], sys.argv[2], DataConfig())
print(peak() - before)
"""


def run_prepare(source, out, **environment):
    """`prepare` in a process of its own; what it prints: by how much its memory grew, in kB."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE, str(source), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_killed_run_leaves_no_folder_and_the_next_one_succeeds(tmp_path):  # SPEC S1
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    lines = (json.dumps({"text": text_of(n)}) + "\n" for n in range(1500))
    (source / "a.jsonl").write_text("".join(lines))
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(source), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    for _ in range(3000):
        written = tmp_path / ".out.unfinished" / "train.jsonl"
        if written.exists() and written.stat().st_size > 100_000:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    run_prepare(source, out)
    assert sorted(everything_in(out)) == sorted(FILES)
    assert not (tmp_path / ".out.unfinished").exists()
    run_prepare(source, tmp_path / "undisturbed")
    assert everything_in(out) == everything_in(tmp_path / "undisturbed")


def test_memory_does_not_grow_with_a_line(tmp_path):  # SPEC S1
    """Beyond the interpreter and the imports, torch's among them: so 1 GB takes under 200 MB."""
    line = " ".join(text_of(n) for n in range(1250)).encode()
    grown = {}
    for megabytes in (5, 20):
        source = tmp_path / f"{megabytes}.txt"
        with source.open("wb") as file:
            while file.tell() < megabytes * 1_000_000:  # each million bytes differs from the others
                file.write(str(file.tell()).encode() + line)
        grown[megabytes] = int(run_prepare(source, tmp_path / f"out {megabytes}"))
        counts = read_json(tmp_path / f"out {megabytes}" / "manifest.json")["counts"]
        assert counts["characters"] > megabytes * 1_000_000
    assert grown[20] < 60_000  # kB; 40,000 measured
    assert grown[20] - grown[5] < 8_000  # half of the 15 million bytes that it has more


# The command


@pytest.fixture
def run(run_here):
    """Runs `prepare` in this process, in the folder `cwd`."""
    return partial(run_here, "prepare")


@pytest.fixture
def data(tmp_path):
    """Two texts that are fine and one that is not, in a folder that is hard on programs."""
    folder = tmp_path / "my [b] dätä"
    folder.mkdir()
    for name, numbers in (("a.txt", range(100)), ("b.txt", range(1000, 1100))):
        (folder / name).write_text(", ".join(str(n**3) for n in numbers) + "\r\n")
    (folder / "c.txt").write_bytes(b"\xff")
    return folder


def test_a_folder_becomes_splits_and_a_summary(data, tmp_path, run):  # SPEC S1
    done = run(data.name, "--out", "my data", "--data.validation", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "my data"
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["config"]["validation"] == 0
    assert manifest["counts"]["found"] == 3
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    found = {" ".join(line.split()[:-1]): line.split()[-1] for line in lines}
    assert found["found"] == "3"
    assert found["dropped: not UTF-8"] == "1"
    assert found["changed by normalize_line_ends"] == "2"
    assert "dropped.jsonl" in lines[-1]


def test_the_embedded_documentation_needs_no_files(tmp_path, run):
    done = run("--corpus", "documentation", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "runs" / "data" / "train.jsonl").read_text(encoding="utf-8")
    assert json.loads(text.split("\n")[0])["source"].startswith("python topic a")


def test_steps_and_limits_are_options(data, tmp_path, run):
    options = ("--data.no-cleaning", "--data.min-characters")
    done = run(data.name, "--out", "out", *options, "100", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "normalize_line_ends" not in done.stdout
    done = run(data.name, "--out", "other", *options, "10000", cwd=tmp_path)
    assert done.returncode == 2
    assert "none was kept. Dropped: not UTF-8: 1, too short: 2." in done.stderr


def test_a_config_file_gives_the_defaults(data, tmp_path, run):
    (tmp_path / "c.json").write_text('{"cleaning": false, "seed": 4, "test": 0}')
    done = run(data.name, "--out", "out", "--config", "c.json", "--data.seed", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "out" / "manifest.json").read_text())["config"]
    assert (config["cleaning"], config["seed"], config["test"]) == (False, 5, 0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "give files or folders to read, or --corpus"),
        (("nowhere",), "no such file or folder (nowhere)"),
        (
            ("--corpus", "poems"),
            "corpus = 'poems' is not one of none, documentation, sources (--corpus)",
        ),
        (("my [b] dätä", "--out", "my [b] dätä/out"), "the output folder is in an input folder"),
        (("my [b] dätä", "--out", "full"), "the folder is not empty"),
        (("my [b] dätä/c.txt", "--out", "x"), "of 1 documents and files none was kept"),
        (("my [b] dätä", "--data.similarity", "0.1"), "similarity = 0.1 is not from 0.7 to 1"),
        (("my [b] dätä", "--config", "bad.json"), "unknown key 'clean' (bad.json)"),
        (("my [b] dätä", "--config", "none.json"), "can't read it"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(
    data, tmp_path, arguments, expected, run
):  # SPEC S9
    (tmp_path / "bad.json").write_text('{"clean": []}')
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["x"]


def test_in_a_process_of_its_own_with_a_strange_locale(data, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "transformer_lessons", "prepare", data.name],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "LC_ALL": "C", "PYTHONUTF8": "0"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
