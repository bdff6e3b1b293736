"""How `python-small` learns from a reward, in several ways, and what each costs. Lesson 23.

    python tools/rewards.py runs/rewards     (`make rewards`)

The functions of the task are the lesson's own: its cells with the tag `task` are run here. What is
done is kept in the folder, a file for each way, and isn't done again. All of it is then written to
`python_small/rewards.json`, where the lesson reads it. What the model writes is never run.
"""

import platform
import random
import sys
import time
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from notebook_files import ROOT, read_notebook, tags

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import read_json, sha256, write_json
from transformer_lessons.training import preference
from transformer_lessons.weights.shipped import SHIPPED

NOTEBOOK = ROOT / "notebooks" / "23_rewards_and_preferences.ipynb"
GROUP, PROMPTS, BETA = 8, 16, 0.2


@cache
def task() -> SimpleNamespace:
    """What the cells of the task define."""
    names = dict(vars(preference))
    for cell in read_notebook(NOTEBOOK).cells:
        if "task" in tags(cell):
            exec(cell.source, names)
    return SimpleNamespace(**names)


def measure(policy, best_of_group: bool) -> dict:
    """The row of a policy, or of the base with the best of each group of samples."""
    headers, row = random.Random(1).sample(task().held_out, 48), {}
    samples = task().write_bodies(policy, headers, GROUP, 0.8, seed=10**6)
    if best_of_group:
        samples = [max(group, key=reward_of) for group in groups(samples)]
    else:
        row["greedy"] = task().judge(task().write_bodies(policy, headers, 1, 0.0, seed=0))
    row |= {"at 0.8": task().judge(samples), "bits per byte": task().bits_per_byte(policy)}
    return row | {"texts": [h + body for h, _, body in samples[:: len(samples) // 8]]}


def groups(samples: list) -> list[list]:
    """The samples of each header."""
    return [samples[i : i + GROUP] for i in range(0, len(samples), GROUP)]


def reward_of(sample: tuple) -> float:
    return task().names_defined(sample[0] + sample[2])


def by_policy_gradient(reward="names_defined", beta=BETA, rate=1e-3, updates=60):
    """-> the policy, and what each update reported; ends early where nothing is left to learn."""
    policy, optimizer = task().new_policy(rate)
    chosen, log = random.Random(0), []  # type: ignore[var-annotated]
    for number in range(updates):
        some, judged = chosen.sample(task().headers, PROMPTS), getattr(task(), reward)
        try:
            log.append(task().update(policy, optimizer, some, judged, beta, 1000 * number, GROUP))
        except LessonsError as error:
            return policy, {"log": log, "ended": error.what}
    return policy, {"log": log}


def from_samples(pairs: bool, rate: float):
    """Sample from the base once, and train on what earns the reward, or on pairs (DPO)."""
    policy, optimizer = task().new_policy(rate)
    chosen, kept = random.Random(0), []  # type: ignore[var-annotated]
    some = chosen.sample(task().headers, 192)
    written = task().write_bodies(task().model, some, GROUP, 1.0, seed=7)
    for group in groups(written):
        good, bad = ([s for s in group if reward_of(s) == mark] for mark in (1, 0))
        kept += list(zip(good, bad, strict=False))[:2] if pairs else good
    loss = task().preference_loss if pairs else task().imitation_loss
    for _ in range(60):
        task().descend(policy, optimizer, loss(policy, chosen.sample(kept, 16)))
    return policy, {"kept": len(kept), "sampled": len(written)}


WAYS: dict[str, Any] = {
    "base": lambda: (task().model, {}),
    "best of 8": lambda: (task().model, {}),
    "fine-tuned on the good": partial(from_samples, pairs=False, rate=1e-3),
    # At 3e-4, DPO earned more, and its texts fell apart (seen on headers of the validation part).
    "DPO": partial(from_samples, pairs=True, rate=1e-4),
    "policy gradient": partial(by_policy_gradient, beta=0.0, updates=40),
    "with a leash": by_policy_gradient,
    "leash, rarer reward": partial(by_policy_gradient, reward="uses_argument"),
    "leash, in steps": partial(by_policy_gradient, reward="in_steps", rate=2e-3, updates=40),
    "rate too high": partial(by_policy_gradient, beta=0.0, rate=3e-2, updates=20),
}


def run(folder: Path) -> None:
    """Every way that isn't in the folder yet, then the file that the lesson reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, way in WAYS.items():
        if not (folder / f"{name}.json").exists():
            start = time.process_time()
            policy, facts = way()
            facts["training minutes"] = (time.process_time() - start) / 60
            write_json(folder / f"{name}.json", facts | measure(policy, name == "best of 8"))
    facts = {"made_by": "make rewards", "python": platform.python_version()}
    facts |= {"torch": torch.__version__, "base": sha256(*SHIPPED.glob("step-*/*.safetensors"))}
    rows = {name: read_json(folder / f"{name}.json") for name in WAYS}
    write_json(SHIPPED / "rewards.json", facts | {"rows": rows})


if __name__ == "__main__":
    run(Path(sys.argv[1]))
