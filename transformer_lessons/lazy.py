"""Names that are loaded when they are asked for, so that nobody waits for what isn't needed."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(package: str, places: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of `package` (PEP 562): each name comes from the module that has it.

    >>> lazy_names("transformer_lessons", {"presets": ["preset"]})("preset").__name__
    'preset'
    """

    def load(name: str) -> Any:
        for module, names in places.items():
            if name in names:
                return getattr(import_module(f"{package}.{module}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load
