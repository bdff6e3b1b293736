"""What each kind of machine came to: a file of sections each, shown side by side in the page."""

import json
import re
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def keep_result(name: str, content: str, kind: str, folder: Path = RESULTS) -> str:
    """Keep `content` as this kind's section `name`; returns the section with all kinds' results.

    >>> from tempfile import mkdtemp
    >>> folder = Path(mkdtemp())
    >>> keep_result("speed", "fast", "A, with AMX", folder)
    'fast'
    >>> print(keep_result("speed", "slow", "B", folder))
    **A, with AMX**
    <BLANKLINE>
    fast
    <BLANKLINE>
    **B**
    <BLANKLINE>
    slow
    """
    path = folder / (re.sub(r"\W+", "-", kind).strip("-").lower() + ".json")
    found = json.loads(path.read_text("utf-8")) if path.exists() else {"kind": kind, "sections": {}}
    found["sections"][name] = content.strip()
    folder.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    kinds = [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))]
    there = [(one["kind"], one["sections"][name]) for one in kinds if name in one["sections"]]
    if len(there) == 1:
        return there[0][1]
    return "\n\n".join(f"**{kind}**\n\n{section}" for kind, section in there)
