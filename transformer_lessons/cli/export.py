"""`export`: a trained model in the formats of others."""

import base64

from transformer_lessons import cli, weights
from transformer_lessons.cli.model_card import model_card, run_of
from transformer_lessons.cli.models import load, path_of
from transformer_lessons.cli.options.models import Export
from transformer_lessons.support.files import new_folder, replace_file
from transformer_lessons.weights.save_pretrained import _as_bpe


def run(options: Export) -> int:
    """Write what was asked for; returns the exit code."""
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
    paths, console = sorted(out.iterdir()) if out.is_dir() else [out], cli.PlainConsole()
    console.print_rows("bytes", {path.name: f"{path.stat().st_size:,}" for path in paths})
    console.print(f"Saved: {out}", soft_wrap=True)
    return 0
