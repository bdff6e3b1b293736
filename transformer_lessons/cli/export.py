"""`export`: a trained model in the formats of others."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from transformer_lessons import cli
from transformer_lessons.config import one_of
from transformer_lessons.errors import LessonsError

Format = Annotated[str, one_of("gguf", "onnx", "huggingface", "tiktoken", "json", "page")]


@dataclass(frozen=True)
class Export:
    """Write a model in a format of others; it is there whole or not at all."""

    model: Annotated[Path, tyro.conf.Positional]
    """A run folder or one of its checkpoints, a Hugging Face folder, a GGUF file, or a name."""
    to: Format
    """gguf (for llama.cpp: model, tokenizer, chat template), onnx (a graph for onnxruntime, without
    a tokenizer), huggingface (a folder for transformers, with the card of a run), tiktoken (the
    ranks of the tokenizer), json (a model in float32, for any language) or page (8 bits, for the
    book's page that follows a text)."""
    out: Path
    """Where it goes; there must be nothing yet."""
    kind: str | None = None
    """Of a GGUF file: F32, F16 (which is the default), Q8_0 or Q4_0."""
    license: str | None = None
    """What the card says about it, such as apache-2.0; without it, the card asks."""


def run(arguments: Sequence[str]) -> int:
    """Write what was asked for; returns the exit code."""
    options, console = cli.parse(Export, arguments, "export"), cli.PlainConsole()
    for name, format in {"kind": "gguf", "license": "huggingface"}.items():
        if getattr(options, name) is not None and options.to != format:
            raise LessonsError(f"it is for {format}", where=f"--{name}")
    if options.out.exists():
        remedy = "Choose another --out, or remove it."
        raise LessonsError("it exists already", where=str(options.out), remedy=remedy)
    write(options)
    paths = sorted(options.out.iterdir()) if options.out.is_dir() else [options.out]
    console.print_rows("bytes", {path.name: f"{path.stat().st_size:,}" for path in paths})
    console.print(f"Saved: {options.out}", soft_wrap=True)
    return 0


def write(options: Export) -> None:
    """Load the model, and write it."""
    # Here, because they load PyTorch: a refused option must not wait for it.
    from transformer_lessons import weights
    from transformer_lessons.cli.model_card import model_card, run_of
    from transformer_lessons.cli.models import load, path_of
    from transformer_lessons.support.files import new_folder, replace_file
    from transformer_lessons.weights.save_pretrained import _as_bpe

    path, out = path_of(options.model), options.out
    loaded = load(path)
    model, tokenizer = loaded.model, loaded.tokenizer
    form = None if loaded.template is None else weights.load_chat_template(path)
    template = None if form is None else form.template
    match options.to:
        case "gguf":
            weights.save_gguf(model, tokenizer, out, options.kind or "F16", template)
        case "onnx":
            weights.export_onnx(model, out)
        case "json":
            weights.export_json(model, out)
        case "page":
            weights.export_page_model(model, tokenizer, out)
        case "tiktoken":
            ranks = _as_bpe(tokenizer).to_tiktoken()._mergeable_ranks
            lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()]
            replace_file(out, b"".join(lines))
        case "huggingface":
            with new_folder(out) as folder:
                weights.save_pretrained(model, tokenizer, folder)
                if template is not None:
                    replace_file(folder / "chat_template.jinja", template)
                if run_of(path) is not None:
                    replace_file(folder / "README.md", model_card(path, options.license))
