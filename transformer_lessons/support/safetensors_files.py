"""The tensors of a Hugging Face folder: one safetensors file, or several and an index of them.

The index says in which file a tensor is: {"weight_map": {"model.embed_tokens.weight":
"model-00001-of-00002.safetensors", ...}}. Nothing outside the folder is read, and no header is
parsed before its length is known to be sound.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import check_start, field, read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CONVERT = "Convert it once: AutoModelForCausalLM.from_pretrained(…), then save_pretrained(…)."
LARGEST_HEADER = LARGEST_INDEX = 16 * 2**20  # bytes; that is room for 100,000 tensors
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # the dtypes that are read, and their bytes
BLOCK = 2**22  # bytes of a tensor that are read at a time


class StoredTensor(NamedTuple):
    """Where a tensor is, its name there, and its shape."""

    path: Path
    name: str
    shape: list[int]


def file_in_folder(folder: Path, name: str) -> Path:
    """The path of the file `name` in `folder`; one that is elsewhere, or not a file, raises.

    In the cache of huggingface_hub a folder `snapshots/…` has links into the `blobs` beside it.
    """
    what, path, remedy = "", folder / name, ""
    try:
        home = folder.resolve()
        homes = (home, home.parents[1] / "blobs") if home.parent.name == "snapshots" else (home,)
        if name in ("", ".", "..") or "\\" in name or Path(name).name != name:
            what = f"{name[:80]!r} is not the name of a file in the folder"
        elif not path.is_file():  # reading a pipe might never end
            what = f"there is no file {name[:80]!r}"
        elif path.resolve().parent not in homes:
            what = f"{name!r} is a link that leads out of the folder"
            remedy = "Copy the folder with the files its links lead to (cp -rL)."
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name, links in a circle
        what = f"can't read {name[:80]!r}: {error}"
    if what:
        raise LessonsError(what, where=str(folder), remedy=remedy)
    return path


def read_json_file(folder: Path, name: str, largest: int) -> dict[str, Any]:
    """The JSON object in the file `name` of `folder`, which may have `largest` bytes."""
    document = read_json(file_in_folder(folder, name), largest)
    if not isinstance(document, dict):
        raise LessonsError("not a JSON object", where=str(folder / name))
    return document


def find_tensors(folder: Path) -> dict[str, StoredTensor]:
    """The tensors in the files of `folder`, by name; what index and files disagree on raises."""
    if (folder / SINGLE).exists() or not (folder / INDEX).exists():
        if not (folder / SINGLE).exists() and (found := sorted(folder.glob("*.bin*"))):
            what = f"the weights are in {found[0].name}, which could run code when it is opened"
            raise LessonsError(what, where=str(folder), remedy=CONVERT)
        return _stored_tensors(file_in_folder(folder, SINGLE))
    where = str(folder / INDEX)
    document = read_json_file(folder, INDEX, LARGEST_INDEX)
    files = field(document, "weight_map", dict[str, str], where)
    tensors: dict[str, StoredTensor] = {}
    for name in sorted(set(files.values())):
        for tensor, stored in _stored_tensors(file_in_folder(folder, name)).items():
            if files.get(tensor) != name:
                what = f"tensor {tensor!r} is in {name}, and the index doesn't say so"
                raise LessonsError(what, where=where)
            tensors[tensor] = stored
    if missing := sorted(files.keys() - tensors.keys()):
        what = f"tensor {missing[0]!r} is not in {files[missing[0]]}"
        raise LessonsError(what, where=where)
    return tensors


def _stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file, by name; no numbers are read."""
    with path.open("rb") as file:
        start = file.read(64)
    check_start(start, str(path))
    length = int.from_bytes(start[:8], "little")
    if not 2 <= length <= min(path.stat().st_size - 8, LARGEST_HEADER):
        raise _unreadable(path, f"its header would have {length:,} bytes")
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            shapes = {name: file.get_slice(name).get_shape() for name in names}
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None
    return {name: StoredTensor(path, name, shape) for name, shape in shapes.items()}


def read_tensor(path: Path, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor of a safetensors file, in `dtype`; integers and one-byte floats raise.

    The file is mapped anew for each block of rows: only a block of it counts as memory in use.
    """
    try:
        with safe_open(path, "pt") as file:
            part = file.get_slice(name)
            shape, kind = part.get_shape(), part.get_dtype()
        if kind not in FLOATS:
            what = f"tensor {name!r} has the dtype {kind}, not one of {', '.join(FLOATS)}"
            remedy = "Quantized weights can be read from GGUF files."
            raise LessonsError(what, where=str(path), remedy=remedy)
        tensor = torch.empty(shape, dtype=dtype)
        if tensor.ndim == 0 or tensor.numel() == 0:
            raise LessonsError(f"tensor {name!r} has no rows", where=str(path))
        step = max(BLOCK // (tensor[0].numel() * FLOATS[kind]), 1)
        for start in range(0, len(tensor), step):
            with safe_open(path, "pt") as file:
                tensor[start : start + step] = file.get_slice(name)[start : start + step]
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None
    return tensor


def _unreadable(path: Path, why: object) -> LessonsError:
    what = f"not a readable safetensors file: {str(why)[:200]}"
    return LessonsError(what, where=str(path), remedy="Was the download complete?")
