"""How `python-small` learns from a reward, in several ways, and what each costs. Lesson 23.

    python tools/rewards.py runs/rewards     (`make rewards`)

The functions of the task are the lesson's own: its cells with the tag `task` are run here. What is
done is kept in the folder, one file for each way; started again, it goes on from there. All of it
is then written to `python_small/rewards.json`, where the lesson reads it. What the model writes is
parsed, and never run.
"""

import argparse
import platform
import random
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from notebook_files import ROOT, read_notebook, tags

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_sources
from transformer_lessons.support.files import read_json, sha256, write_json
from transformer_lessons.training import (
    cross_entropy,
    dpo_loss,
    preference,
    sequence_log_probability,
    token_lengths,
)
from transformer_lessons.training.evaluate import evaluate
from transformer_lessons.weights.shipped import SHIPPED

RESULT = SHIPPED / "rewards.json"
UPDATES, PROMPTS, GROUP, BETA = 60, 16, 8, 0.2
RATES = {"policy gradient": 1e-3, "fine-tuning": 1e-3, "DPO": 3e-4, "too high": 3e-2}
SEEN_AT = 10**6  # the seed of the samples that all are judged by


def lesson() -> SimpleNamespace:
    """What the lesson's cells with the tag `task` define."""
    names: dict = dict(vars(preference))
    for cell in read_notebook(ROOT / "notebooks" / "23_rewards_and_preferences.ipynb").cells:
        if "task" in tags(cell):
            exec(cell.source, names)
    return SimpleNamespace(**names)


task = lesson()
HELD_OUT = random.Random(1).sample(task.held_out, 48)
CHECKS = {"parses": task.parses, "names": task.names_defined, "uses": task.uses_argument}


def text_windows(n_windows: int = 16, length: int = 256) -> torch.Tensor:
    """Tokens (n_windows, length + 1) of modules of Python's library that nothing was trained on."""
    texts = (d.text for d in python_sources() if task.split_of(d.text, 0.05, 0.05) == "test")
    ids = [id for text in texts for id in task.tokenizer.encode_ordinary(text)[: 2 * length]]
    return torch.tensor(ids[: n_windows * (length + 1)]).view(n_windows, -1)


def judge(samples: list) -> dict:
    """What share of the samples passes each check, their mean length, and how varied they are."""
    found = {name: sum(check(h + b) for h, _, b in samples) for name, check in CHECKS.items()}
    fours = [tuple(ids[i : i + 4]) for _, ids, _ in samples for i in range(len(ids) - 3)]
    shares = {name: n / len(samples) for name, n in found.items()}
    length = sum(len(ids) for _, ids, _ in samples) / len(samples)
    return shares | {"tokens": length, "distinct": len(set(fours)) / max(1, len(fours))}


def measure(policy, choose: Callable | None = None) -> dict:
    """The row of a policy; `choose(samples)` keeps one sample for each header."""
    samples = task.write_bodies(policy, HELD_OUT, GROUP, 0.8, SEEN_AT)
    kept = choose(samples) if choose else samples
    row = {"at 0.8": judge(kept), "texts": [h + b for h, _, b in kept[:: len(kept) // 8]]}
    if choose is None:
        row["greedy"] = judge(task.write_bodies(policy, HELD_OUT, 1, 0.0, SEEN_AT))
    windows, lengths = text_windows(), token_lengths(task.tokenizer)
    row["bits per byte"] = evaluate(
        policy, [(windows[:, :-1], windows[:, 1:])], lengths
    ).bits_per_byte
    batch = task.as_batch(samples)
    with torch.no_grad():
        apart = sequence_log_probability(policy, *batch)
        apart -= sequence_log_probability(task.model, *batch)
    return row | {"apart": apart.mean().item()}


def groups(samples: list) -> list[list]:
    """The samples of each header."""
    return [samples[i : i + GROUP] for i in range(0, len(samples), GROUP)]


def best_of_group(samples: list) -> list:
    """Of each header's samples the first with the highest reward."""
    return [max(g, key=lambda s: task.names_defined(s[0] + s[2])) for g in groups(samples)]


def by_policy_gradient(reward, beta, rate=RATES["policy gradient"], updates=UPDATES):
    """-> the policy, and what each update reported; ends early where nothing is left to learn."""
    policy, optimizer = task.new_policy(rate)
    chosen, log = random.Random(0), []
    for number in range(updates):
        some = chosen.sample(task.headers, PROMPTS)
        try:
            log.append(task.update(policy, optimizer, some, reward, beta, 1000 * number, GROUP))
        except LessonsError as error:
            return policy, {"log": log, "ended": error.what}
    return policy, {"log": log}


def from_samples(loss: Callable, rate: float, good_enough: Callable, n_headers=192, steps=60):
    """Sample from the base once, keep what is `good_enough` of each group, and train on that."""
    policy, optimizer = task.new_policy(rate)
    chosen = random.Random(0)
    written = task.write_bodies(task.model, chosen.sample(task.headers, n_headers), GROUP, 1.0, 7)
    kept = [item for group in groups(written) for item in good_enough(group)]
    for _ in range(steps):
        task.descend(policy, optimizer, loss(policy, chosen.sample(kept, 16)))
    return policy, {"kept": len(kept), "sampled": len(written)}


def good(group: list) -> list:
    """Those with reward 1."""
    return [s for s in group if task.names_defined(s[0] + s[2])]


def pairs(group: list) -> list:
    """Up to two pairs of a sample with reward 1 and one with reward 0."""
    bad = [s for s in group if not task.names_defined(s[0] + s[2])]
    return list(zip(good(group), bad, strict=False))[:2]


def imitate(policy, samples: list) -> torch.Tensor:
    """Cross-entropy on the samples, as in fine-tuning."""
    inputs, targets = task.as_batch(samples)
    return cross_entropy(policy(inputs), targets)


def prefer(policy, some_pairs: list) -> torch.Tensor:
    """`dpo_loss` of the pairs, with the base as the reference."""
    better, worse = (task.as_batch(side) for side in zip(*some_pairs, strict=True))
    with torch.no_grad():
        base = [sequence_log_probability(task.model, *side) for side in (better, worse)]
    own = [sequence_log_probability(policy, *side) for side in (better, worse)]
    return dpo_loss(*own, *base, beta=0.1)


WAYS: dict[str, Callable] = {
    "base": lambda: (task.model, {}),
    "best of 8": lambda: (task.model, {}),
    "fine-tuned on the good": lambda: from_samples(imitate, RATES["fine-tuning"], good),
    "DPO": lambda: from_samples(prefer, RATES["DPO"], pairs),
    "policy gradient": lambda: by_policy_gradient(task.names_defined, 0.0, updates=40),
    "with a leash": lambda: by_policy_gradient(task.names_defined, BETA),
    "leash, better reward": lambda: by_policy_gradient(task.uses_argument, BETA),
    "rate too high": lambda: by_policy_gradient(task.names_defined, 0.0, RATES["too high"], 20),
}


def run(folder: Path) -> None:
    """Every way that isn't in the folder yet, then the file that the lesson reads."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name, way in WAYS.items():
        path = folder / f"{name}.json"
        if not path.exists():
            start = time.process_time()
            policy, facts = way()
            facts["training minutes"] = (time.process_time() - start) / 60
            row = measure(policy, best_of_group if name == "best of 8" else None)
            write_json(path, facts | row)
        rows[name] = read_json(path)
        print(name, {k: v for k, v in rows[name].items() if k not in ("log", "texts")}, flush=True)
    facts = {"made_by": "make rewards", "python": platform.python_version()}
    facts |= {"torch": torch.__version__, "updates": UPDATES, "prompts": PROMPTS, "group": GROUP}
    facts |= {"beta": BETA, "rates": RATES, "held_out": len(HELD_OUT)}
    weights = next(SHIPPED.glob("step-*/*.safetensors"))
    facts |= {"base_sha256": sha256(weights), "cpu": platform.processor()}
    write_json(RESULT, facts | {"rows": rows}, indent=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where what is done is kept")
    run(parser.parse_args().folder)
