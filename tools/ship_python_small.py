"""Put the trained `python-small` into the package: its best checkpoint, how it was made, and how
good it is.

    python tools/ship_python_small.py runs/python-small

`make python-small` prepares the data, trains the tokenizer and the model, and then runs this.
"""

import argparse
import json
import lzma
import platform
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from notebook_files import ROOT

from transformer_lessons.cli.evaluate import evaluate_on
from transformer_lessons.cli.run_folder import best_checkpoint
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.support.files import read_json, replace_file
from transformer_lessons.tokenizers.tokenizer import fingerprint, load_tokenizer
from transformer_lessons.training.checkpoint import load_checkpoint, save_checkpoint

SHIPPED = ROOT / "transformer_lessons" / "python_small"
EVERY = 10  # steps between two lines of the log that stay


def ship(made: Path) -> dict:
    """Write the shipped folder anew from `made`, and return its manifest."""
    run, best = made / "run", best_checkpoint(made / "run")
    checkpoint, tokenizer = load_checkpoint(best), load_tokenizer(run / "tokenizer.json")
    shutil.rmtree(SHIPPED, ignore_errors=True)
    # In bfloat16 it is half as large; what that costs is in the manifest.
    save_checkpoint(SHIPPED, checkpoint.step, load_checkpoint(best).model.bfloat16())
    replace_file(SHIPPED / "config.json", (run / "config.json").read_bytes())
    tokenizer.save(SHIPPED / "tokenizer.json")
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if is_kept(json.loads(line))]
    replace_file(SHIPPED / "log.jsonl", "".join(kept))

    texts = {split: read_texts(made / "data" / f"{split}.jsonl") for split in ("train", "test")}
    full = evaluate_on(checkpoint.model, tokenizer, texts["test"]).bits_per_byte
    rounded = evaluate_on(load_checkpoint(SHIPPED).model, tokenizer, texts["test"]).bits_per_byte
    log = [json.loads(line) for line in lines]
    manifest = {
        "made_by": "make python-small",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "parameters": count_parameters(checkpoint.model),
        "best_step": checkpoint.step,
        "steps": len(log),
        "tokens_seen": sum(line["n_targets"] for line in log),
        "seconds": round(sum(line["seconds"] for line in log)),
        "tokenizer_sha256": fingerprint(tokenizer),
        "data": read_json(made / "data" / "manifest.json")["outputs"],
        "text": read_json(made / "data" / "text.json"),
        "bits_per_byte_on_test": {
            "python-small, float32": round(full, 4),
            "python-small, as shipped in bfloat16": round(rounded, 4),
            **{name: round(bits, 4) for name, bits in compressors(**texts).items()},
        },
    }
    replace_file(SHIPPED / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    return manifest


def is_kept(line: dict) -> bool:
    """Whether a line of the log is shipped: every tenth, the first, and evaluations."""
    return line["step"] % EVERY == 0 or line["step"] == 1 or line["validation"] is not None


def read_texts(path: Path) -> list[str]:
    """The documents of a file of JSON lines."""
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


def compressors(train: Sequence[str], test: Sequence[str]) -> dict[str, float]:
    """Bits per byte of the test text by gzip and xz, alone and after the library's own modules."""
    known, new = ("\n".join(texts).encode() for texts in (train, test))
    deflate = zlib.compressobj(9, wbits=31)  # 31: gzip's own header and checksum
    gzip_size = len(deflate.compress(new) + deflate.flush())
    best = 9 | lzma.PRESET_EXTREME
    xz_size = len(lzma.compress(new, preset=best))
    primed = len(lzma.compress(known + new, preset=best)) - len(lzma.compress(known, preset=best))
    sizes = {"gzip -9": gzip_size, "xz -9e": xz_size, "xz -9e, after the library's text": primed}
    return {name: 8 * size / len(new) for name, size in sizes.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("made", type=Path, help="the folder that `make python-small` works in")
    print(json.dumps(ship(parser.parse_args().made), indent=2))
