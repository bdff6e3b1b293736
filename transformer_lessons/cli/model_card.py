"""What comes with a model that is handed on: how it was made, and what has to be asked first.

The form is that of Hugging Face's model cards: Mitchell et al. 2019, "Model Cards".
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.accounting import parameter_counts
from transformer_lessons.support.checkpoint_files import read_checkpoint_json
from transformer_lessons.support.files import field, read_json, sha256
from transformer_lessons.training.checkpoint import latest_checkpoint

SETTINGS = ("optimizer", "learning_rate", "schedule", "steps", "batch_size", "precision", "seed")
QUESTION = """**Not stated.** Whoever publishes the model has to answer two questions first. Under \
which terms was the data above published, and do they allow this? What may others do with the \
model? `export --license NAME` puts the answer here."""


def run_of(path: Path) -> Path | None:
    """The run folder that `path` is, or that it is a checkpoint of; None if there is none."""
    folders = (path, path.absolute().parent)
    return next((one for one in folders if (one / "log.jsonl").is_file()), None)


def model_card(path: Path, license: str | None = None) -> str:
    """The card of a run or of one of its checkpoints, in Markdown; no run: `LessonsError`."""
    if (folder := run_of(path)) is None:
        remedy = "Only a run of this package has the log that a card is written from."
        raise LessonsError("not a run folder", where=str(path), remedy=remedy)
    where, config = str(folder / "config.json"), read_json(folder / "config.json")
    data = field(config, "data", dict | None, where) or {}
    training = field(config, "training", dict | None, where) or {}
    checkpoint = latest_checkpoint(folder) if folder == path else path
    about = read_checkpoint_json(checkpoint / "checkpoint.json")
    model, log = ModelConfig.from_dict(about["model"]), _read_log(folder / "log.jsonl")
    manifest = folder / "manifest.json"
    more = read_json(manifest) if manifest.is_file() else {}
    n_tokens = more.get("tokens_seen", sum(line["n_targets"] for line in log))
    figures = {"steps": f"{about['step']:,}", "tokens seen": f"{n_tokens:,}"}
    judged = [x for x in log if x.get("validation") is not None and x["step"] <= about["step"]]
    for line in judged[-1:]:
        figures[f"loss on held-out text, step {line['step']}"] = f"{line['validation']:.4f}"
    scores = _part(more, "bits_per_byte_on_test")
    figures |= {f"bits per byte on test text, {name}": score for name, score in scores}
    files = {path.name: sha256(path) for path in sorted(checkpoint.glob("model.*"))}
    sources = {"name": data.get("name"), "SHA-256": data.get("fingerprint")}
    sources |= {name: f"SHA-256 {facts.get('sha256')}" for name, facts in _part(more, "data")}
    shown = {name: getattr(model, name) for name in ("n_layers", "d_model", "context_length")}
    parts = {
        "Model": {"parameters": f"{sum(parameter_counts(model).values()):,}"} | shown,
        "Data": sources,
        "Training": {name: training.get(name) for name in SETTINGS},
        "Figures": figures,
        "Checkpoint": files | {"tokenizer.json": sha256(folder / "tokenizer.json")},
    }
    head = f"---\nlicense: {license or 'unknown'}\n---\n\n# {folder.name}\n\n"
    for title, rows in parts.items():
        head += f"## {title}\n\n| | |\n|---|---|\n"
        head += "".join(f"| {name} | {value} |\n" for name, value in rows.items()) + "\n"
    head += f"## Licence\n\n{license or QUESTION}\n\n"
    return head + "## Not tested\n\nAll that isn't in *Figures*.\n"


def _read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; that of the shipped model has only some of the steps."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise LessonsError(f"can't read it: {error}", where=str(path)) from None


def _part(document: dict, name: str) -> Iterable[tuple[str, Any]]:
    return (field(document, name, dict | None, "manifest.json") or {}).items()
