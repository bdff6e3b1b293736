"""Folders that `torch.distributed.checkpoint` has written, read without running what is in them.

Each rank writes the parts that it holds. The file `.metadata` says where each part is, as a pickle,
which can call anything when it is loaded. So here it may only name what such tables are made of.
"""

import pickle
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.safetensors_files import file_in_folder

CLASSES = """metadata.Metadata metadata.MetadataIndex metadata.StorageMeta
    metadata.TensorStorageMetadata metadata.BytesStorageMetadata metadata.ChunkStorageMetadata
    metadata.TensorProperties metadata._MEM_FORMAT_ENCODING filesystem._StorageInfo"""
KNOWN = {f"torch.distributed.checkpoint.{name}" for name in CLASSES.split()}
KNOWN |= {f"torch.{name}" for name in ("float64", "float32", "float16", "bfloat16", "int64")}
KNOWN |= {"torch.Size", "torch.serialization._get_layout", "pathlib.PosixPath"}


class SafeReader(FileSystemReader):
    """PyTorch's reader of such a folder; what could run code, or leaves the folder, raises."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        try:
            with file_in_folder(folder, ".metadata").open("rb") as file:
                self.table: Metadata = _Table(file).load()
            for name in {part.relative_path for part in (self.table.storage_data or {}).values()}:
                file_in_folder(folder, name)
        except LessonsError:
            raise
        except Exception as error:  # of a dozen kinds, when bytes of a pickle have changed
            what = f"not a table of torch.distributed.checkpoint: {error}"
            raise LessonsError(what, where=str(folder / ".metadata")) from None
        self.table.storage_meta = self.table.storage_meta or StorageMeta()

    def read_metadata(self, *args: Any, **more: Any) -> Metadata:
        return self.table


class _Table(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in KNOWN:
            raise LessonsError(f"it would call {module}.{name}", where=".metadata")
        return super().find_class(module, name)
