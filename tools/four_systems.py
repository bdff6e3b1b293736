"""What the four systems came to: a page of the book and a table in README, from run folders.

    python tools/four_systems.py runs

`runs` holds the folders `fluctlight`, `gpt`, `llama` and `secure` that README's commands make. What
is shown is what they hold: config.json, summary.json, and log.jsonl.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from notebook_files import ROOT

from transformer_lessons.cli.evaluate import evaluate_on
from transformer_lessons.cli.models import load
from transformer_lessons.support.files import read_json, replace_file

TEXT = ROOT / "CONTRIBUTING.md"  # which none of them has seen: a text to compare all by
FIGURES = ROOT / "book" / "_static" / "figures"
PAGE, README = ROOT / "book" / "four_systems.md", ROOT / "README.md"
BEGIN = "<!-- four systems: begin, written by tools/four_systems.py -->\n"
END = "<!-- four systems: end -->"


@dataclass(frozen=True)
class System:
    """What a page says about a run besides its numbers."""

    folder: str
    title: str
    about: str
    command: str
    lessons: tuple[int, ...]


SYSTEMS = (
    System(
        "fluctlight",
        "The smallest complete model",
        "Bytes, four numbers per token, two heads of width two, two layers. It learns pairs: what "
        "is given, and what should follow.",
        "train --preset fluctlight --pairs runs/pairs.tsv --out runs/fluctlight",
        (1, 2, 6),
    ),
    System(
        "gpt",
        "The educational GPT",
        "Learned positions, LayerNorm before each layer, GELU, a tied head, and the 100,277 tokens "
        "of `cl100k_base`, trained on windows of 128 tokens although it can see 5,000.",
        "train --preset gpt --corpus --out runs/gpt",
        (5, 9, 10, 12, 13),
    ),
    System(
        "llama",
        "The Llama-style model with a tokenizer of its own",
        "Rotary positions, heads that share keys and values, RMSNorm, SwiGLU, and byte-pair "
        "encoding that is learned from the training text first.",
        "train --preset llama --corpus --out runs/llama",
        (3, 6, 8, 9),
    ),
    System(
        "secure",
        "The careful pipeline",
        "A corpus is cleaned, judged, freed of duplicates and split, with an account of everything "
        "that was dropped; then a small model is trained on it. No file that is read can run code.",
        "train --preset python-small --text runs/data/train.jsonl "
        "--held-out runs/data/validation.jsonl --out runs/secure",
        (2, 4, 13, 14),
    ),
)
INTRO = """# Four systems

Four kinds of language models, each trained by one command of this package. All four are the same
class, `Decoder`, with other choices in its configuration.

The runs below took from a second to two minutes on two cores of a server. All but the first are
much shorter than their presets ask: they show how training begins, and not what such a system can
do in the end. The corpus, Python's own documentation, is small, and a longer run learns it by
heart: after 400 steps of a run of 2,000, the third system had a training loss of 0.54 nats. The
fourth, given 300 steps instead of 100, had 0.56, and on held-out text 5.64 instead of 5.14. The
loss per token depends on the tokenizer; bits per byte does not, and so compares the last three.
Tables, curves and samples were written from the folders of the runs.

"""


def links(lessons: tuple[int, ...]) -> str:
    """Links to lessons, by their numbers."""
    paths = [next((ROOT / "notebooks").glob(f"{number:02}_*.ipynb")) for number in lessons]
    made = [f"[{n}](../notebooks/{path.name})" for n, path in zip(lessons, paths, strict=True)]
    return f"{', '.join(made[:-1])} and {made[-1]}"


def section(system: System, runs: Path) -> str:
    """What the page says about one system."""
    folder = runs / system.folder
    found, config = read_json(folder / "summary.json"), read_json(folder / "config.json")
    model, training = config["model"], config["training"]
    n_tokens = training["batch_size"] * training["grad_accum_steps"]
    length = training["sequence_length"] or model["context_length"]
    rows = {
        "model": f"{model['n_layers']} layers, {model['d_model']} numbers per token, "
        f"{model['vocab_size']:,} tokens, sees {model['context_length']:,}",
        "this run": f"{training['steps']:,} steps of {n_tokens:,} × {length:,} tokens at most",
        "data": config["data"]["name"],
    }
    rows |= {name: text for name, text in found.items() if name != "it writes"}
    if "held-out loss" in found:  # pairs of bytes have nothing to do with a text
        loaded = load(folder)
        result = evaluate_on(
            loaded.model, loaded.tokenizer, [TEXT.read_text()], loaded.trained_length
        )
        rows["on another text, CONTRIBUTING.md"] = f"{result.bits_per_byte:.3f} bits per byte"
    table = "".join(f"| {name} | {text} |\n" for name, text in rows.items())
    picture = FIGURES / f"four_{system.folder}.svg"
    replace_file(picture, (folder / "loss.svg").read_text(encoding="utf-8"))
    figure = (
        f"```{{figure}} _static/figures/{picture.name}\n:alt: The loss of this run over its steps. "
    )
    figure += f"It ends at {found['training loss']}.\n:width: 75%\n```\n\n"
    written = found["it writes"].replace("```", "'''")
    return (
        f"## {system.title}\n\n{system.about} Lessons {links(system.lessons)} explain it.\n\n"
        f"```text\npython -m transformer_lessons {system.command}\n```\n\n"
        f"| | |\n|---|---|\n{table}\n{figure}"
        f"It writes, after the arrow:\n\n```text\n{written}\n```\n\n"
    )


def readme_table(runs: Path) -> str:
    """One row for each system."""
    lines = ["| system | parameters | held-out loss | time |\n|---|---|---|---|\n"]
    for system in SYSTEMS:
        found = read_json(runs / system.folder / "summary.json")
        loss = found.get("held-out loss", f"{found['training loss']}, in training")
        cells = system.title, found["parameters"], loss, found["time"].split(",")[0]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def write(runs: Path) -> None:
    """Write the page, and the table of the README."""
    replace_file(PAGE, INTRO + "".join(section(system, runs) for system in SYSTEMS).rstrip() + "\n")
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    note = "Short runs, measured on two cores of a server:\n\n"
    replace_file(README, f"{before}{BEGIN}\n{note}{readme_table(runs)}\n{END}{after}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="the folder with the four run folders")
    write(parser.parse_args().runs)
