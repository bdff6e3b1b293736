"""A Sphinx extension for the reference: docstrings as they are written, to reStructuredText."""

import re
from typing import Any


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-process-signature", leave_out_rules)
    return {"parallel_read_safe": True}


def escape_bars(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: Any) -> None:
    """In |A ∩ B|, a bar is a bar; reStructuredText would look for a substitution called A ∩ B."""
    lines[:] = [
        line if line.lstrip().startswith(">>>") else line.replace("|", "\\|") for line in lines
    ]


def leave_out_rules(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, signature: str, result: str
) -> tuple[str, str]:
    """The rule of a config's field is for programs: `Annotated[int, Allowed(…)]` reads as `int`."""
    return re.sub(r"Annotated\[([^,]+), .*?<lambda>\)\]", r"\1", signature or ""), result
