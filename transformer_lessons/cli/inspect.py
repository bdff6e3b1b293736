"""`inspect`: what a model, a tokenizer or a token file is made of."""

from collections import Counter
from pathlib import Path

from rich.table import Table

from transformer_lessons import cli
from transformer_lessons.cli.model_card import model_card
from transformer_lessons.cli.models import load, path_of
from transformer_lessons.cli.options.models import Inspect
from transformer_lessons.cli.tokenizer import facts_of, token_facts
from transformer_lessons.support.gguf_file import read_gguf
from transformer_lessons.support.tiktoken_files import SPECIAL_TOKENS
from transformer_lessons.tokenizers import load_tokenizer


def run(options: Inspect) -> int:
    """Print the tables; returns the exit code."""
    console = cli.PlainConsole()
    if facts := token_facts(options.what):
        console.print_rows("token file", facts)
        return 0
    if options.what.suffix == ".json" or str(options.what) in ("bytes", *SPECIAL_TOKENS):
        tokenizer = load_tokenizer(str(options.what))
        console.print_rows(type(tokenizer).__name__, facts_of(tokenizer))
        return 0
    if options.card:
        console.print(model_card(path_of(options.what)), soft_wrap=True)
        return 0
    loaded = load(options.what)
    if options.what.suffix == ".gguf":
        console.print_rows("GGUF file", gguf_facts(options.what))
    console.print_rows("config", loaded.model.config.to_dict())
    table = Table("tensor", "shape", "numbers", box=None)
    for name, tensor in loaded.model.state_dict().items():
        table.add_row(name, " × ".join(map(str, tensor.shape)), f"{tensor.numel():,}")
    console.print(table)
    steps = "" if loaded.n_steps is None else f", after {loaded.n_steps:,} steps"
    console.print(f"{loaded.n_parameters:,} parameters{steps}")
    return 0


def gguf_facts(path: Path) -> dict[str, str]:
    """What a GGUF file says about itself: its metadata, and the types of its tensors."""
    file = read_gguf(path)
    kinds = Counter(tensor.type for tensor in file.tensors.values())
    rows = {"tensors": ", ".join(f"{count} {kind}" for kind, count in kinds.items())}
    for name, value in file.metadata.items():
        rows[name] = f"{len(value):,} values" if isinstance(value, list) else f"{value!r:.60}"
    return rows
