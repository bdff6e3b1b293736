"""What the head explorer of lesson 24 shows: a script that its page loads. `publish.py` writes it.

The text is the lesson's: 25 random tokens, twice, 32 times. The losses are means over the 32 texts,
the patterns are those of the first one.
"""

import base64
import json
import random
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from transformer_lessons.analysis import attention_patterns, head_ablation, induction_scores
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference
from transformer_lessons.weights.shipped import load_shipped

PERIOD, N_TEXTS, N_BEST, N_DRAWS = 25, 32, 8, 8
Heads = list[tuple[int, int]]


def repeated_text() -> Tensor:
    """The lesson's texts, (32, 50)."""
    generator = torch.Generator().manual_seed(0)
    once = torch.randint(300, 4000, (N_TEXTS, PERIOD), generator=generator)
    return torch.cat([once, once], dim=1)


def losses_without(model: Decoder, heads: Heads) -> list[float]:
    """The mean loss of predicting tokens 1, 2, …, 49 with `heads` silenced, to 3 decimals."""
    tokens = repeated_text()
    with head_ablation(model, heads), inference(model):
        logits = model(tokens[:, :-1])
    losses = cross_entropy(logits.mT, tokens[:, 1:], reduction="none").mean(dim=0)
    return [round(loss, 3) for loss in losses.tolist()]


def heads_script() -> str:
    """The script that sets `TransformerLessons.heads`; a head's name is "block.number".

    A pattern is its lower triangle, row by row, a byte for each weight (255 is 1), in base64.
    """
    shipped, _ = load_shipped()
    model = shipped.double()  # rounded, its numbers are the same on every machine
    everyone = list(product(range(model.config.n_layers), range(model.config.n_heads)))
    patterns = attention_patterns(model, repeated_text())
    induction = induction_scores(patterns, PERIOD)
    previous = patterns.diagonal(-1, -2, -1).mean((1, -1))
    best = sorted(everyone, key=lambda head: -induction[head].item())
    looking_back = sorted(everyone, key=lambda head: -previous[head].item())[:2]
    others = [head for head in everyone if head not in [*best[:4], *looking_back]]
    draws = [random.Random(seed).sample(others, 4) for seed in range(N_DRAWS)]
    rows, columns = torch.tril_indices(2 * PERIOD, 2 * PERIOD)
    triangles = (255 * patterns[:, 0, :, rows, columns]).round().byte()
    document = {
        "period": PERIOD,
        "n_texts": N_TEXTS,
        "scores": {"induction": as_rows(induction), "previous": as_rows(previous)},
        "intact": losses_without(model, []),
        "single": {name(head): losses_without(model, [head]) for head in everyone},
        "best": [selection(model, best[:k]) for k in range(1, N_BEST + 1)],
        "draws": [selection(model, heads) for heads in draws],
        "patterns": {name(h): encoded(triangles[h]) for h in everyone},
    }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in document.items())
    return f"TransformerLessons.heads = {{\n{lines}}};\n"


def name(head: tuple[int, int]) -> str:
    return f"{head[0]}.{head[1]}"


def as_rows(table: Tensor) -> list[list[float]]:
    return [[round(score, 2) for score in row] for row in table.tolist()]


def selection(model: Decoder, heads: Heads) -> dict:
    return {"heads": [name(head) for head in heads], "losses": losses_without(model, heads)}


def encoded(numbers: Tensor) -> str:
    return base64.b64encode(numbers.numpy().tobytes()).decode("ascii")
