"""The command `download`, without a network."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transformer_lessons.support.documents import read_documents
from transformer_lessons.support.shards import read_shard

COMMAND = [sys.executable, "-W", "error", "-m", "transformer_lessons", "download"]
OFFLINE = {
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
os.environ.update(OFFLINE)  # read when `datasets` is imported, which is later
TEXTS = [f"Page {i}: " + ", ".join(str(i + n**3) for n in range(40)) for i in range(130)]


def environment(tmp_path):
    plain = {"OMP_NUM_THREADS": "1", "COLUMNS": "100", "HF_HOME": str(tmp_path / "hf")}
    return {**os.environ, **OFFLINE, **plain}


@pytest.fixture
def run(run_here):
    """Runs `download` in this process, in the folder `cwd`."""
    return partial(run_here, "download")


@pytest.fixture
def files(tmp_path):
    """Two files with FineWeb's columns, in a folder that is hard on programs."""
    folder = tmp_path / "my [b] dätä"
    folder.mkdir()
    for number, texts in enumerate((TEXTS[:70], TEXTS[70:])):
        n = len(texts)
        others = ("id", "dump", "url", "date", "file_path", "language")
        columns = {"text": texts} | {name: [f"../{name} {i}" for i in range(n)] for name in others}
        columns |= {"language_score": [0.9] * n, "token_count": list(range(n))}
        pq.write_table(pa.table(columns), folder / f"{number}.parquet", row_group_size=16)
    return folder.name


def contents(folder):
    """The files but for the facts, in which the library may call the same place differently."""
    paths = list(folder.iterdir())
    return {path.name: path.read_bytes() for path in paths if not path.match("shard-*.json")}


def texts_in(folder):
    return [text for path in sorted(folder.glob("*.parquet")) for text in read_shard(path)]


def table_of(stdout):
    lines = (line.split() for line in stdout.splitlines() if line.startswith(" "))
    return {line[0]: " ".join(line[1:]) for line in lines}


def test_a_part_is_fetched_and_a_second_run_goes_on(files, tmp_path, run):  # SPEC E8
    options = ("fineweb", "--from-parquet", files, "--shard-size", "20")
    done = run(*options, "--out", "part", "--megabytes", "0.005", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    shards = sorted(path for path in (tmp_path / "part").glob("*.parquet"))
    assert sum(path.stat().st_size for path in shards) >= 5_000
    assert sum(path.stat().st_size for path in shards[:-1]) < 5_000
    table = table_of(done.stdout)
    assert table["shards"] == f"{len(shards)}, {len(shards)} of them new"
    assert table["documents"] == f"{20 * len(shards)}"
    assert table["the"] == "source has more"
    assert "Written to part" in done.stdout

    done = run(*options, "--out", "part", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = table_of(done.stdout)
    assert table["shards"] == f"7, {7 - len(shards)} of them new"
    assert table["documents"] == "130"
    assert table["the"] == "source all of it"
    assert texts_in(tmp_path / "part") == TEXTS  # without the source

    done = run(*options, "--out", "whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(contents(tmp_path / "whole")) == 7 + 1
    assert contents(tmp_path / "whole") == contents(tmp_path / "part")


def test_what_was_fetched_can_be_prepared_for_training(files, tmp_path, run):  # SPEC E8
    done = run("fineweb", "--from-parquet", files, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = read_documents([tmp_path / "out"], report=lambda dropped: None)
    assert [document.text for document in found] == TEXTS


def test_a_run_that_was_killed_is_gone_on_with(tmp_path, run):  # SPEC E8
    texts = [str(i) * 500 for i in range(2_000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=100)
    options = ("fineweb", "--from-parquet", "a.parquet", "--shard-size", "10")
    command = [*COMMAND, *options, "--out", "out"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path)) as process:
        end = time.monotonic() + 60
        while len(list((tmp_path / "out").glob("*.parquet"))) < 5 and time.monotonic() < end:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    n_fetched = len(list((tmp_path / "out").glob("*.parquet")))
    assert 5 <= n_fetched < 200
    assert run(*options, "--out", "out", cwd=tmp_path).returncode == 0
    assert texts_in(tmp_path / "out") == texts


def test_without_a_network_it_says_so_and_may_be_tried_again(files, tmp_path, run):  # SPEC S9
    for _ in range(2):
        done = run("fineweb", "--out", "out", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("error: can't read it: ConnectionError")
        assert "--from-parquet" in done.stderr
        assert done.stderr.count("\n") == 1
        assert "Is there a network" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["source.json"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--from-parquet", "none.parquet"), "no parquet file here (none.parquet). Name a"),
        (("--from-parquet", "full"), "no parquet file here (full)"),
        (("--from-parquet", "cut.parquet"), "error: can't read it: Arrow"),
        (("--from-parquet", "other.parquet"), 'a row without a "text" that is a string; it has: x'),
        (("--out", "full"), "not a folder of shards (full)"),
        (("--out", "full/x"), "can't make the folder"),
        (("--megabytes", "0"), "megabytes = 0.0 is not from 0 to a billion (--megabytes)"),
        (("--megabytes", "nan"), "megabytes = nan is not from 0"),
        (("--shard-size", "0"), "shard_size = 0 is not an integer of at least 1"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(
    files, tmp_path, arguments, expected, run
):  # SPEC S9
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / files / "0.parquet").read_bytes()[:-9])
    pq.write_table(pa.table({"x": ["a"]}), tmp_path / "other.parquet")
    options = ("--from-parquet", files) if "--from-parquet" not in arguments else ()
    done = run("fineweb", *options, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["x"]
    assert not list((tmp_path / "runs").rglob("*shard-*"))
