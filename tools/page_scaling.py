"""What the explorer of lesson 16 shows: a script that its page loads. `publish.py` writes it.

The runs are those that come with the package, and the surface is fitted as in the lesson.
"""

import json
from dataclasses import asdict
from typing import Any

from scaling import STORED

from transformer_lessons.support.files import read_json
from transformer_lessons.training.scaling import LossSurface, fit_loss_surface


def lesson_surface(rows: list[dict[str, Any]]) -> LossSurface:
    """The surface fitted to the rows that are for the fit; N leaves out the embedding."""
    fitted = [row for row in rows if row["use"] == "fit"]
    sizes = [sum(row["parameters"].values()) - row["parameters"]["embedding"] for row in fitted]
    return fit_loss_surface(sizes, [row["tokens"] for row in fitted], [r["loss"] for r in fitted])


def scaling_script() -> str:
    """The script that sets `TransformerLessons.scaling`: five numbers, and the measured runs."""
    rows = read_json(STORED)["rows"]
    shown = [row for row in rows if row["use"] in ("fit", "held out")]
    runs = [
        {key: row[key] for key in ("width", "tokens", "budget")} | {"loss": round(row["loss"], 4)}
        for row in shown
    ]
    surface = {name: float(f"{value:.6g}") for name, value in asdict(lesson_surface(rows)).items()}
    document = json.dumps({"surface": surface, "runs": runs})
    return f"TransformerLessons.scaling = {document};\n"
