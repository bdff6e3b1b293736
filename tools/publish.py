"""Copy what the lessons made into the book's static folder. Run it after tools/run_notebooks.py.

    python tools/publish.py

A figure of a cell tagged `figure:learning` becomes `book/_static/figures/learning.png`; the models
and numbers that the widgets show become scripts that their pages load. Last, the map of the lessons
is drawn, and the pages of the reference and of wrong answers are written.
"""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from lesson_map import draw
from misconceptions import PAGE, misconceptions_page
from notebook_files import ROOT, notebook_paths, numbered_code_cells, read_notebook, tags
from page_bytes import bytes_script
from page_heads import heads_script
from page_scaling import scaling_script
from page_scores import scores_script
from reference import reference_pages

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import read_json, replace_file
from transformer_lessons.weights.export import FORMAT, PAGE_FORMAT, export_page_model
from transformer_lessons.weights.shipped import load_shipped

TAG = "figure:"
FIGURES = Path("book/_static/figures")
WIDGETS = Path("book/_static/widgets")
PAGE_MODEL = WIDGETS / "first_model_weights.js"


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
    if not isinstance(document, dict) or document.get("format") not in (FORMAT, PAGE_FORMAT):
        raise LessonsError("not a model of export_json", where=str(json_path))
    text = Path(json_path).read_text(encoding="utf-8").strip()
    script = f"TransformerLessons.weights[{json.dumps(name)}] = {text};\n"
    replace_file(Path(script_path), script)


def row_script() -> str:
    """The row of weights that lesson 21 rounds, as a script that its page loads."""
    row = load_shipped()[0].state_dict()["blocks.0.attention.qkv.weight"][0]
    return f"TransformerLessons.quantization_row = {json.dumps(row.tolist())};\n"


def main(root: Path = ROOT) -> int:
    """Write the figures, and the numbers of the pages."""
    for path, image in tagged_figures(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
        print(f"written: {path.relative_to(root)}")
    export_page_script(root / "runs" / "first_model.json", root / PAGE_MODEL, "first_model")
    print(f"written: {PAGE_MODEL}")
    export_page_model(*load_shipped(), root / "runs" / "python_small.json")
    small = WIDGETS / "python_small_weights.js"
    export_page_script(root / "runs" / "python_small.json", root / small, "python_small")
    print(f"written: {small}")
    made = {
        WIDGETS / "sampling_scores.js": scores_script(),
        WIDGETS / "quantization_row.js": row_script(),
        WIDGETS / "head_losses.js": heads_script(),
        WIDGETS / "scaling_runs.js": scaling_script(),
        WIDGETS / "byte_map_file.js": bytes_script(),
        FIGURES / "lesson_map.svg": draw(root),
        PAGE: misconceptions_page(root),
        **reference_pages(root),
    }
    for path, text in made.items():
        replace_file(root / path, text)
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
