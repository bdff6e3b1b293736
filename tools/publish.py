"""Copy what the lessons made into the book's static folder. Run it after tools/run_notebooks.py.

    python tools/publish.py

A figure of a cell tagged `figure:learning` becomes `book/_static/figures/learning.png`; the model
that lesson 01 exported to `runs/first_model.json` becomes the script that its page loads, and the
scores that lesson 17 samples from, the losses of lesson 24 and the file of lesson 26 become more.
"""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from notebook_files import ROOT, notebook_paths, numbered_code_cells, read_notebook, tags
from page_bytes import bytes_script
from page_heads import heads_script
from page_scores import scores_script

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import read_json, replace_file
from transformer_lessons.weights.export import FORMAT

TAG = "figure:"
FIGURES = Path("book/_static/figures")
PAGE_MODEL = Path("book/_static/widgets/first_model_weights.js")
PAGE_SCORES = Path("book/_static/widgets/sampling_scores.js")
PAGE_HEADS = Path("book/_static/widgets/head_losses.js")
PAGE_BYTES = Path("book/_static/widgets/byte_map_file.js")


def tagged_figures(root: Path) -> Iterator[tuple[Path, bytes]]:
    """Where each tagged figure of the notebooks belongs, and its PNG."""
    for path in notebook_paths(root):
        for _, cell in numbered_code_cells(read_notebook(path)):
            for name in [tag.removeprefix(TAG) for tag in tags(cell) if tag.startswith(TAG)]:
                [image] = [o.data["image/png"] for o in cell.outputs if "data" in o]
                yield root / FIGURES / f"{name}.png", base64.b64decode(image)


def export_page_script(json_path: Path | str, script_path: Path | str, name: str) -> None:
    """Wrap an exported model as a script that a page can load: TransformerLessons.weights[name].

    A page opened from a file may not fetch JSON, but it may run a script.
    """
    document = read_json(json_path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise LessonsError("not a model of export_json", where=str(json_path))
    text = Path(json_path).read_text(encoding="utf-8").strip()
    script = f"TransformerLessons.weights[{json.dumps(name)}] = {text};\n"
    replace_file(Path(script_path), script)


def main(root: Path = ROOT) -> int:
    """Write the figures, and the numbers of the pages."""
    for path, image in tagged_figures(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
        print(f"written: {path.relative_to(root)}")
    export_page_script(root / "runs" / "first_model.json", root / PAGE_MODEL, "first_model")
    print(f"written: {PAGE_MODEL}")
    scripts = {PAGE_SCORES: scores_script, PAGE_HEADS: heads_script, PAGE_BYTES: bytes_script}
    for script_path, make in scripts.items():
        replace_file(root / script_path, make())
        print(f"written: {script_path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
