"""`tokenize_file` resumed: after any interruption, the bytes of a run that was not interrupted."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_lessons.data import encoding, token_files
from transformer_lessons.data.encoding import Part, pass_over
from transformer_lessons.data.token_files import HEADER_SIZE, tokenize_file
from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.bpe import BPETokenizer

TEXTS = [f"the cat {n} sat on the mat\n\n and é€😀 {n * n} " * (n % 4) for n in range(40)]
PARTS = [Part("ab", False, 2), Part("é", True, 4), Part("", True, 5), Part("c", True, 6)]


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train("the cat sat on the mat", 265, special_tokens=["<|endoftext|>"])


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same texts as one document and as many."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "a.txt").write_text("".join(TEXTS))
    lines = [json.dumps({"text": text}) + "\n" for text in TEXTS]
    (folder / "a.jsonl").write_text("".join(lines))
    return {"txt": folder / "a.txt", "jsonl": folder / "a.jsonl"}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of a few bytes, so that a short file has many; the disk need not keep up."""
    cut = encoding.safe_blocks
    monkeypatch.setattr(encoding, "BLOCK", 100)
    monkeypatch.setattr(encoding, "safe_blocks", lambda pieces: cut(pieces, size=100))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def interrupt_after(n):
    """A report that stops the run at the `n`-th part."""
    calls = []

    def report(n_read, n_tokens):
        calls.append(n_tokens)
        if len(calls) == n:
            raise KeyboardInterrupt

    return report


def interrupted(n, source, tokenizer, path, **options):
    with pytest.raises(KeyboardInterrupt):
        tokenize_file(source, tokenizer, path, report=interrupt_after(n), resume=True, **options)


def append(seen, *counts):
    seen.append(counts)


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_interrupted_anywhere_the_bytes_are_the_same(sources, tokenizer, tmp_path, kind):  # SPEC S3
    source, path, parts = sources[kind], tmp_path / "a.tokens", []
    tokenize_file(source, tokenizer, path, report=lambda *counts: parts.append(counts))
    whole = path.read_bytes()
    path.unlink()
    assert len(parts) > 10
    for n in range(1, len(parts) + 1):
        seen = []
        interrupted(n, source, tokenizer, path)
        (left,) = tmp_path.iterdir()
        with left.open("ab") as file:  # killed while it wrote ids that no header counts yet
            file.write(b"\x01\x02\x03" * (n % 3))
        report = partial(append, seen)
        tokens = tokenize_file(source, tokenizer, path, report=report, resume=True)
        assert path.read_bytes() == whole
        assert tokens.header.n_tokens == len(tokens.ids) == parts[-1][1]
        assert seen == parts[n:]  # nothing is encoded twice
        assert left_in(tmp_path) == ["a.tokens"]
        path.unlink()


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["txt", "jsonl"]),
    cuts=st.lists(st.integers(1, 5), max_size=5),
)
def test_interrupted_again_and_again(sources, tokenizer, tmp_path_factory, kind, cuts):  # SPEC S3
    folder = tmp_path_factory.mktemp("cut [b] ü")
    tokenize_file(sources[kind], tokenizer, folder / "whole.tokens")
    for n in cuts:
        try:
            report = interrupt_after(n)
            tokenize_file(sources[kind], tokenizer, folder / "a.tokens", 1, report, resume=True)
        except KeyboardInterrupt:
            pass
    tokenize_file(sources[kind], tokenizer, folder / "a.tokens", resume=True)
    assert (folder / "a.tokens").read_bytes() == (folder / "whole.tokens").read_bytes()


def test_workers_go_on_where_one_process_was(sources, tokenizer, tmp_path):  # SPEC S3
    path = tmp_path / "a.tokens"
    whole = tokenize_file(sources["jsonl"], tokenizer, tmp_path / "whole.tokens")
    interrupted(3, sources["jsonl"], tokenizer, path)
    tokenize_file(sources["jsonl"], tokenizer, path, n_workers=2, resume=True)
    assert path.read_bytes() == whole.path.read_bytes()


def test_the_furthest_of_several_is_taken(sources, tokenizer, tmp_path):
    path = tmp_path / "a.tokens"
    for process, n in ((11, 2), (12, 6), (13, 4)):
        interrupted(n, sources["txt"], tokenizer, path)
        (left,) = (file for file in tmp_path.iterdir() if f".{os.getpid()}." in file.name)
        left.rename(tmp_path / f".a.tokens.{process}.rest")
    for left in tmp_path.glob(".*.rest"):
        left.rename(left.with_suffix(".unfinished"))
    (tmp_path / ".a.tokens.14.unfinished").write_bytes(b"")  # killed before its header
    (tmp_path / ".a.tokens.15.unfinished").write_bytes(bytes(128))
    seen, parts = [], []
    tokenize_file(sources["txt"], tokenizer, path, 1, lambda *c: seen.append(c), resume=True)
    tokenize_file(sources["txt"], tokenizer, tmp_path / "whole", 1, lambda *c: parts.append(c))
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()
    assert seen == parts[6:]
    assert left_in(tmp_path) == ["a.tokens", "whole"]
    (tmp_path / ".b.tokens.16.unfinished").write_bytes(b"")
    tokenize_file(sources["txt"], tokenizer, tmp_path / "b.tokens", resume=True)
    assert (tmp_path / "b.tokens").read_bytes() == path.read_bytes()


def test_without_resume_it_starts_anew_and_keeps_nothing(sources, tokenizer, tmp_path):
    path, seen = tmp_path / "a.tokens", []
    interrupted(3, sources["txt"], tokenizer, path)
    tokenize_file(sources["txt"], tokenizer, path, 1, lambda *counts: seen.append(counts))
    tokenize_file(sources["txt"], tokenizer, tmp_path / "whole", 1, lambda *c: seen.append(c))
    assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]
    with pytest.raises(KeyboardInterrupt):
        tokenize_file(sources["txt"], tokenizer, tmp_path / "b.tokens", 1, interrupt_after(2))
    assert left_in(tmp_path) == ["a.tokens", "whole"]


def test_another_text_or_tokenizer_is_refused(sources, tokenizer, tmp_path):  # SPEC S9
    path, source = tmp_path / "a.tokens", tmp_path / "a.jsonl"
    source.write_bytes(sources["jsonl"].read_bytes())
    interrupted(4, source, tokenizer, path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    other = BPETokenizer.train("the cat sat on the mat", 264, special_tokens=["<|endoftext|>"])
    message = r"^the run that was interrupted had another tokenizer \(.*\.unfinished\)\. Remove"
    with pytest.raises(LessonsError, match=message):
        tokenize_file(source, other, path, resume=True)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    source.write_bytes(source.read_bytes() + b'{"text": "more"}\n')
    with pytest.raises(LessonsError, match=r"^the run that was interrupted had another source"):
        tokenize_file(source, tokenizer, path, resume=True)
    source.write_bytes(before[source])
    tokenize_file(source, tokenizer, path, resume=True)
    assert left_in(tmp_path) == ["a.jsonl", "a.tokens"]


@pytest.mark.parametrize("damage", ["a flipped bit", "ids are missing", "cut in the header"])
def test_a_damaged_beginning_is_refused(sources, tokenizer, tmp_path, damage):  # SPEC S9
    path = tmp_path / "a.tokens"
    interrupted(4, sources["txt"], tokenizer, path)
    (left,) = tmp_path.iterdir()
    data = bytearray(left.read_bytes())
    if damage == "a flipped bit":
        data[50] ^= 1
    cut = {"ids are missing": -1, "cut in the header": 100}.get(damage)
    left.write_bytes(data[:cut])
    with pytest.raises(LessonsError, match=r"^damaged, it can't be resumed \(.*\.unfinished\)"):
        tokenize_file(sources["txt"], tokenizer, path, resume=True)
    tokenize_file(sources["txt"], tokenizer, path)


def test_a_header_counts_only_what_is_on_the_disk(
    sources, tokenizer, tmp_path, monkeypatch
):  # SPEC S3
    """A power cut can keep a header and lose ids that were written before it, but not synced."""
    synced, counted, pack = [0], [], token_files.pack_header

    def sync(descriptor):
        synced.append(os.fstat(descriptor).st_size)

    def check(header):
        counted.append(header.n_tokens)
        assert HEADER_SIZE + 2 * header.n_tokens == synced[-1]
        return pack(header)

    monkeypatch.setattr(token_files, "pack_header", check)
    monkeypatch.setattr(token_files.os, "fsync", sync)
    tokens = tokenize_file(sources["jsonl"], tokenizer, tmp_path / "a.tokens")
    assert len(counted) > 10
    assert counted[-1] == tokens.header.n_tokens


@pytest.mark.parametrize(("n_done", "rest"), [(0, 0), (2, 1), (5, 2), (6, 3), (8, 4)])
def test_whole_parts_are_passed_over(n_done, rest):
    assert list(pass_over(PARTS, n_done, "a.txt")) == PARTS[rest:]


@pytest.mark.parametrize("n_done", [1, 3, 4, 7])
def test_a_part_is_not_passed_over_by_halves(n_done):
    with pytest.raises(LessonsError, match=r"^cut into other parts than before \(a\.txt\)"):
        list(pass_over(PARTS, n_done, "a.txt"))


# Killed

CODE = """
import sys
from transformer_lessons.data import encoding
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.data.token_files import tokenize_file
encoding.BLOCK = 10_000
tokenize_file(sys.argv[1], ByteTokenizer(), sys.argv[2], resume=True)
"""


def start(source, path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", CODE, str(source), str(path)]
    return subprocess.Popen(command, env=environment)


def size_of_unfinished(folder):
    return max((path.stat().st_size for path in folder.glob(".*.unfinished")), default=0)


def test_five_kills_at_random_moments(tmp_path):  # SPEC S3
    dice, folder = random.Random(), tmp_path / "out"
    folder.mkdir()
    source, path = tmp_path / "a.jsonl", folder / "a.tokens"
    lines = [json.dumps({"text": f"{n} é😀 " * dice.randrange(1_000)}) + "\n" for n in range(1_500)]
    source.write_text("".join(lines))
    places = []
    for _ in range(5):
        process, before = start(source, path), size_of_unfinished(folder)
        for _ in range(3_000):
            if size_of_unfinished(folder) > before or process.poll() is not None:
                break
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        places.append(size_of_unfinished(folder))
    assert start(source, path).wait() == 0
    ids = [list(json.loads(line)["text"].encode()) for line in lines]
    assert bytes(token_files.open_tokens(path).ids.tolist()) == b"".join(map(bytes, ids))
    assert left_in(folder) == ["a.tokens"]
    assert places == sorted(places)
    assert 0 < places[0] < places[-1]
