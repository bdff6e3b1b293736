"""A model's card: how it was made, and what has to be asked first (Mitchell et al. 2019)."""

import json
from pathlib import Path
from typing import Any

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.accounting import parameter_counts
from transformer_lessons.support.checkpoint_files import read_checkpoint_json
from transformer_lessons.support.files import field, read_json, read_text, sha256
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
    config, manifest = read_json(folder / "config.json"), folder / "manifest.json"
    data, training = (_part(config, name, folder) for name in ("data", "training"))
    checkpoint = latest_checkpoint(folder) if folder == path else path
    about = read_checkpoint_json(checkpoint / "checkpoint.json")
    model, step = ModelConfig.from_dict(about["model"]), about["step"]
    log = [line for line in _read_log(folder / "log.jsonl") if line[0] <= step]
    more = read_json(manifest) if manifest.is_file() else {}
    n_tokens = field(more, "tokens_seen", int | None, str(manifest)) or sum(n for _, n, _ in log)
    figures = {"steps": f"{step:,}", "tokens seen": f"{n_tokens:,}"}
    for number, _, loss in [line for line in log if line[2] is not None][-1:]:
        figures[f"loss on held-out text, step {number}"] = f"{loss:.4f}"
    for name, score in _part(more, "bits_per_byte_on_test", manifest).items():
        figures[f"bits per byte on test text, {name}"] = score
    files = {path.name: sha256(path) for path in sorted(checkpoint.glob("model.*"))}
    sources = {"name": data.get("name"), "SHA-256": data.get("fingerprint")}
    for name, facts in _part(more, "data", manifest, dict[str, dict] | None).items():
        sources[name] = f"SHA-256 {facts.get('sha256')}"
    if text := _part(more, "text", manifest):
        sources["trained on"] = _trained_on(text, manifest)
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


def _read_log(path: Path) -> list[tuple[int, int, float | None]]:
    """Step, tokens and held-out loss of each line; the shipped model's log has not every step."""
    try:
        lines = map(json.loads, read_text(path).splitlines())
        return [(line["step"], line["n_targets"], line["validation"]) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise LessonsError(f"can't read it: {error!r:.80}", where=str(path)) from None


def _trained_on(text: dict[str, Any], where: Path) -> str:
    """Whose modules the training text is made of; a manifest doesn't record their licences."""
    times = field(_part(text, "library", where), "repeats", int, str(where))
    packages = _part(text, "packages", where, dict[str, dict] | None)
    named = ", ".join(f"{name} {facts.get('version')}" for name, facts in packages.items())
    licences = "Their licences are not recorded."
    return f"train.jsonl {times} times, and once modules of {named}. {licences}"


def _part(document: Any, name: str, where: Path, kind: Any = dict | None) -> dict[str, Any]:
    return field(document, name, kind, str(where)) or {}
