"""Fine-tune SmolLM2 on the two personas, and write the package's `personas`: adapters and manifest.

    python tools/ship_personas.py runs/personas

Each run is a process of its own, on one thread: its CPU time and its largest memory are measured. A
third run trains all weights on the pirate's conversations, for comparison; it isn't shipped. Then
every model answers the held-out questions and is judged on a text that has nothing to do with them.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from notebook_files import ROOT

from transformer_lessons.cli.evaluate import evaluate_on
from transformer_lessons.cli.models import LoadedModel, load
from transformer_lessons.data.pairs import collate
from transformer_lessons.generation.generate import eos_token_ids, generate
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.support.files import read_json, replace_file, sha256, write_json
from transformer_lessons.training.chat_data import chat_example, read_conversations
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.training.evaluate import evaluate
from transformer_lessons.weights.lora import load_lora

MODEL, SHIPPED = "smollm2-135m", ROOT / "transformer_lessons" / "personas"
RUNS = {"terse": "2", "pirate": "2", "pirate, all weights": "0"}  # by name: the rank of LoRA
N_BYTES, N_NEW = 30_000, 64  # of the text; of an answer, in tokens


def finetune(name: str, rank: str, out: Path) -> dict[str, int]:
    """One run of the command, unless it is there already; -> what it cost."""
    if (out / "cost.json").exists():
        return read_json(out / "cost.json")
    folder = Path("transformer_lessons", "personas", name.partition(",")[0])
    command = [sys.executable, "-m", "transformer_lessons", "finetune", "--model", MODEL]
    command += ["--data", str(folder / "conversations.jsonl"), "--lora-rank", rank]
    command += ["--held-out", str(folder / "held_out.jsonl"), "--out", str(out)]
    start = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name}: finetune failed")
    cost = {"cpu_seconds": used.ru_utime + used.ru_stime, "seconds": time.perf_counter() - start}
    measured = {name: round(value) for name, value in cost.items()}
    measured["peak_mb"] = round(used.ru_maxrss * 1024 / 1e6)
    write_json(out / "cost.json", measured)
    return measured


def judge(model: Decoder, base: LoadedModel, text: str) -> dict[str, object]:
    """The losses of a model on both held-out files and on `text`, and its greedy answers."""
    losses, tokenizer, template = {}, base.tokenizer, base.template
    assert template is not None
    for name in ("terse", "pirate"):
        chats = read_conversations(SHIPPED / name / "held_out.jsonl")
        examples = [chat_example(template, chat, tokenizer) for chat in chats]  # type: ignore[arg-type]
        losses[name] = round(evaluate(model, [collate(examples)]).loss, 3)
    asked = [template([chat[0]]) for chat in chats]
    prompts = [tokenizer.encode(p, allowed_special="all") for p in asked]  # type: ignore[call-arg]
    ends = eos_token_ids(tokenizer)
    written = generate(model, prompts, N_NEW, Sampler(0.0), stop=ends)
    answers = [tokenizer.decode([i for i in ids if i not in ends]) for ids in written]
    bits = round(evaluate_on(model, tokenizer, [text], 512).bits_per_byte, 4)
    n_ended = sum(bool(ids) and ids[-1] in ends for ids in written)
    return {"held_out_loss": losses, "bits_per_byte": bits, "ended": n_ended, "answers": answers}


def ship(made: Path) -> None:
    """Train, copy adapters and logs into the package, measure, and write the manifest."""
    base, text, models = load(Path(MODEL)), python_documentation()[:N_BYTES], {}
    models["base"] = judge(base.model, base, text)
    for name, rank in RUNS.items():
        out = made / name.replace(", ", "-").replace(" ", "-")
        cost, log = finetune(name, rank, out), (out / "log.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in log.splitlines()]
        if rank == "0":
            model = load_checkpoint(out).model
        else:
            model, folder = load_lora(base.model, out / "adapter"), SHIPPED / name
            for file in (out / "adapter").iterdir():
                shutil.copyfile(file, folder / file.name)
            replace_file(folder / "log.jsonl", log)
            shutil.copyfile(out / "config.json", folder / "config.json")
        n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        steps = {"steps": len(lines), "targets": sum(line["n_targets"] for line in lines)}
        models[name] = {"trained": n_trained, **steps, **cost, **judge(model, base, text)}
    files = {str(path.relative_to(SHIPPED)): sha256(path) for path in sorted(SHIPPED.glob("*/*"))}
    questions = [c[0]["content"] for c in read_conversations(SHIPPED / "pirate" / "held_out.jsonl")]
    manifest = {"made_by": "make personas", "base": MODEL, "python": platform.python_version()}
    manifest |= {"torch": torch.__version__, "text": f"{N_BYTES} characters of documentation"}
    write_json(SHIPPED / "manifest.json", manifest | {
        "questions": questions, "models": models, "sha256": files}, indent=2)  # fmt: skip
    print({name: {k: v for k, v in m.items() if k != "answers"} for name, m in models.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("made", type=Path, help="the folder to train in")
    ship(parser.parse_args().made)
