"""The exercises of lesson 01: each piece of the first model, written by the reader.

Shapes: T tokens, V different tokens, d numbers per head.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _next_byte_pairs(text: bytes) -> tuple[list[int], list[int]]:
    """(inputs, targets): the value of every byte that has a next one, and of that next one."""
    return list(text[:-1]), list(text[1:])


NEXT_BYTE_PAIRS = Exercise(
    id="01.next_byte_pairs",
    cases=((b"ab",), (b"abc",), ("é!".encode(),), (b"ababab",)),
    reference=_next_byte_pairs,
    wrong_answers=(
        WrongAnswer(
            lambda text: (list(text), list(text)),
            "Inputs and targets are the same: such a model learns to copy, not to predict.",
        ),
        WrongAnswer(
            lambda text: (list(text[1:]), list(text[:-1])),
            "Inputs and targets are swapped: this asks for the byte before, not the next one.",
        ),
        WrongAnswer(
            lambda text: (list(text), list(text[1:])),
            "There are more inputs than targets: the last byte has no next one to predict.",
        ),
        WrongAnswer(
            lambda text: (list(text), list(text[1:] + text[:1])),
            "The last target is the first byte again: a text does not start over at its end.",
        ),
        WrongAnswer(
            lambda text: (
                [ord(c) for c in text.decode()[:-1]],
                [ord(c) for c in text.decode()[1:]],
            ),
            "These are characters, not bytes: é is one character, and two bytes in UTF-8.",
        ),
    ),
    hints=(
        'Write down the bytes of b"abc". Which of them have a next byte, and which one is it?',
        "Both lists are one shorter than the text. A slice can leave out one end of it.",
    ),
)


def _causal_mask(n_tokens: int) -> Tensor:
    """(T, T) booleans: True where the position of the row may look at that of the column."""
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()


CAUSAL_MASK = Exercise(
    id="01.causal_mask",
    cases=((1,), (2,), (3,), (5,), (8,)),
    reference=_causal_mask,
    wrong_answers=(
        WrongAnswer(
            lambda n: torch.ones(n, n, dtype=torch.bool).tril(1),
            "Each position can also see the next one: is your comparison >= where > is meant?",
        ),
        WrongAnswer(
            lambda n: torch.ones(n, n, dtype=torch.bool).tril(-1),
            "No position can see itself, and the first sees nothing: is > meant to be >=?",
        ),
        WrongAnswer(
            lambda n: torch.ones(n, n, dtype=torch.bool).triu(),
            "Rows and columns are swapped: each position sees itself and what comes after it.",
        ),
        WrongAnswer(
            lambda n: torch.ones(n, n, dtype=torch.bool).triu(1),
            "True and False are swapped: True marks where a position may look, not where it can't.",
        ),
        WrongAnswer(
            lambda n: torch.ones(n, n, dtype=torch.bool),
            "Every position sees every other: nothing hides the future.",
        ),
    ),
    hints=(
        "Draw the table for three tokens: a row for who looks, a column for who is looked at.",
        "torch.arange numbers the positions. Shape one copy (T, 1) and compare it with another.",
    ),
)


def _hide_future(scores: Tensor) -> Tensor:
    return scores.masked_fill(~_causal_mask(len(scores)), -math.inf)


def _attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """(T, T): how token t (the row) divides its attention among the tokens up to itself."""
    return _hide_future(q @ k.T / math.sqrt(q.shape[-1])).softmax(dim=-1)


ATTENTION_WEIGHTS = Exercise(
    id="01.attention_weights",
    cases=(
        (
            torch.tensor([[0.0, 0, 0, 0], [2, 0, 0, 0]]),
            torch.tensor([[2.0, 0, 0, 0], [0, 0, 0, 0]]),
        ),
        (torch.tensor([[1.0, 2], [0, 1], [3, -1]]), torch.tensor([[1.0, 0], [2, 1], [0, -1]])),
    ),
    reference=_attention_weights,
    wrong_answers=(
        WrongAnswer(
            lambda q, k: _hide_future(q @ k.T).softmax(dim=-1),
            "The scores are not scaled: what does the formula do with d, the width of a head?",
        ),
        WrongAnswer(
            lambda q, k: _hide_future(q @ k.T / q.shape[-1]).softmax(dim=-1),
            "The scores are divided by d itself: dot products grow like the root of d.",
        ),
        WrongAnswer(
            lambda q, k: _hide_future(q @ k.T / math.sqrt(q.shape[-1])).softmax(dim=0),
            "The columns sum to 1, not the rows: each query divides its attention among the keys.",
        ),
        WrongAnswer(
            lambda q, k: (q @ k.T / math.sqrt(q.shape[-1])).softmax(dim=-1).tril(),
            "The rows don't sum to 1: masked after the softmax, hidden tokens keep their share.",
        ),
        WrongAnswer(
            lambda q, k: (q @ k.T / math.sqrt(q.shape[-1])).tril().softmax(dim=-1),
            "Hidden tokens get a score of 0, and exp(0) is 1: which score has an exp of 0?",
        ),
        WrongAnswer(
            lambda q, k: (q @ k.T / math.sqrt(q.shape[-1])).softmax(dim=-1),
            "The future is visible: token t may look at tokens 0 to t only.",
        ),
    ),
    hints=(
        "Three steps: a score for every pair, no score for the future, each row made to sum to 1.",
        "A score that softmax turns into exactly 0 is minus infinity; torch has masked_fill.",
    ),
)


def _rotate(x: float, y: float, position: float) -> tuple[float, float]:
    """The point (x, y) turned counter-clockwise by `position` radians."""
    c, s = math.cos(position), math.sin(position)
    return x * c - y * s, y * c + x * s


def _rotate_in_place(x: float, y: float, position: int) -> tuple[float, float]:
    x = x * math.cos(position) - y * math.sin(position)
    y = y * math.cos(position) + x * math.sin(position)
    return x, y


ROTATE = Exercise(
    id="01.rotate",
    cases=((1.0, 0.0, 0), (1.0, 0.0, 1), (0.0, 1.0, 1), (3.0, -4.0, 2), (0.5, 2.0, 15)),
    reference=_rotate,
    wrong_answers=(
        WrongAnswer(
            lambda x, y, position: _rotate(x, y, -position),
            "This turns clockwise: which of the two sines has the minus?",
        ),
        WrongAnswer(
            lambda x, y, position: _rotate(x, y, math.radians(position)),
            "The position is taken for degrees: a step is one radian, about 57 degrees.",
        ),
        WrongAnswer(
            lambda x, y, position: _rotate(x, y, position + 1),
            "This turns one step too far: position 0 stays where it is.",
        ),
        WrongAnswer(
            lambda x, y, p: (x * math.sin(p) - y * math.cos(p), y * math.sin(p) + x * math.cos(p)),
            "Sine and cosine are swapped: at position 0 the cosine is 1 and the sine is 0.",
        ),
        WrongAnswer(
            _rotate_in_place,
            "The new y is made from the new x: keep the old x until both are computed.",
        ),
    ),
    hints=(
        "Turn (1, 0) and (0, 1) on paper first: where do they land?",
        "Each new coordinate is a sum of two products: one with the cosine, one with the sine.",
    ),
)


def _next_byte_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy, in nats, of `logits` (T, V) at the `targets` (T,) that came."""
    log_probabilities = logits.log_softmax(dim=-1)
    return -log_probabilities[torch.arange(len(targets)), targets].mean()


NEXT_BYTE_LOSS = Exercise(
    id="01.next_byte_loss",
    cases=(
        (torch.zeros(1, 2), torch.tensor([0])),
        (torch.tensor([[0.0, 1, 2], [3, 0, 1]]), torch.tensor([2, 1])),
        (torch.zeros(3, 256), torch.tensor([97, 98, 97])),
        (torch.tensor([[0.0, 1000]]), torch.tensor([0])),
        (torch.tensor([[0.0, 1, 2], [3, 0, 5]]), torch.tensor([2, 1])),
    ),
    reference=_next_byte_loss,
    wrong_answers=(
        WrongAnswer(
            lambda logits, targets: _next_byte_loss(logits, targets) / math.log(2),
            "This is the loss in bits: nats take the natural logarithm, not the one to base 2.",
        ),
        WrongAnswer(
            lambda logits, targets: _next_byte_loss(logits, targets) * len(targets),
            "This is the sum over the positions: without the mean, longer texts look worse.",
        ),
        WrongAnswer(
            lambda logits, targets: -_next_byte_loss(logits, targets),
            "The sign is missing: logarithms of probabilities are negative, a loss is not.",
        ),
        WrongAnswer(
            lambda logits, targets: -logits.softmax(-1)[range(len(targets)), targets].mean(),
            "These are probabilities, not their logarithms.",
        ),
        WrongAnswer(
            lambda logits, targets: -logits[range(len(targets)), targets].mean(),
            "The logits are not yet log-probabilities: a softmax has to come in between.",
        ),
        WrongAnswer(
            lambda logits, targets: -logits.softmax(-1)[range(len(targets)), targets].log().mean(),
            "A tiny probability is rounded to 0, whose log is -inf: torch has log_softmax.",
        ),
        WrongAnswer(
            lambda logits, targets: cross_entropy(logits.softmax(-1), targets),
            "Softmax is applied twice: cross_entropy takes logits and does its own.",
        ),
        WrongAnswer(
            lambda logits, targets: -logits.log_softmax(-1)[:, targets].mean(),
            "Every row is read at every target: row t counts at targets[t] only.",
        ),
    ),
    hints=(
        "Of each row only one number counts: the log-probability of the byte that really came.",
        "Indexing a table with two lists, rows and columns, picks one number per row.",
    ),
)


def _temperature(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities (V,) from `logits` (V,), sharper below temperature 1 and flatter above."""
    return (logits / temperature).softmax(dim=-1)


TEMPERATURE = Exercise(
    id="01.temperature",
    cases=(
        (torch.tensor([0.0, 1.0]), 1.0),
        (torch.tensor([0.0, 1.0]), 0.5),
        (torch.tensor([3.0, 1.0, 2.0]), 2.0),
    ),
    reference=_temperature,
    wrong_answers=(
        WrongAnswer(
            lambda logits, temperature: (logits * temperature).softmax(dim=-1),
            "Hot and cold are swapped: a low temperature makes the model surer, not less sure.",
        ),
        WrongAnswer(
            lambda logits, temperature: logits.softmax(dim=-1) / temperature,
            "The probabilities no longer sum to 1: they were changed after the softmax.",
        ),
        WrongAnswer(
            lambda logits, temperature: (logits.softmax(dim=-1) / temperature).softmax(dim=-1),
            "Softmax is applied twice: its result is probabilities, which a second one flattens.",
        ),
        WrongAnswer(
            lambda logits, temperature: logits.softmax(dim=-1),
            "The temperature makes no difference: is it used?",
        ),
    ),
    hints=(
        "Temperature acts on the scores, before they become probabilities.",
        "Temperature 0.5 has to double the distance between two scores.",
    ),
)


def _count_parameters(vocab_size: int, d_model: int, n_layers: int, d_ff: int) -> int:
    """How many numbers the model of this lesson learns."""
    norm = 2 * d_model
    attention = 4 * (d_model * d_model + d_model)
    feedforward = (d_model * d_ff + d_ff) + (d_ff * d_model + d_model)
    embedding = vocab_size * d_model
    head = d_model * vocab_size + vocab_size
    return embedding + n_layers * (2 * norm + attention + feedforward) + norm + head


COUNT_PARAMETERS = Exercise(
    id="01.count_parameters",
    cases=((2, 2, 1, 2), (3, 4, 2, 8), (256, 4, 2, 8), (1000, 64, 6, 256)),
    reference=_count_parameters,
    wrong_answers=(
        WrongAnswer(
            lambda v, d, n, f: _count_parameters(v, d, n, f) - n * (5 * d + f) - v,
            "The biases are missing: every linear layer adds one number per output.",
        ),
        WrongAnswer(
            lambda v, d, n, f: _count_parameters(v, d, n, f) - v * d,
            "One of two tables is missing: embedding and head don't share theirs here.",
        ),
        WrongAnswer(
            lambda v, d, n, f: _count_parameters(v, d, n, f) - n * 2 * d,
            "A block has two norms: one before attention, one before the feed-forward layer.",
        ),
        WrongAnswer(
            lambda v, d, n, f: _count_parameters(v, d, n, f) - 2 * d,
            "The norm between the last block and the head is missing.",
        ),
        WrongAnswer(
            lambda v, d, n, f: _count_parameters(v, d, n, f) - v,
            "The head's bias is missing: one number for each token of the vocabulary.",
        ),
        WrongAnswer(
            lambda v, d, n, f: _count_parameters(v, d, n, f) - n * (d * d + d),
            "Attention has four linear layers: queries, keys, values, and one for the output.",
        ),
    ),
    hints=(
        "Go through the model from input to output and write one line per table and layer.",
        "A linear layer has a weight for each pair of input and output, and a bias per output.",
        "A norm has a weight and a bias for each of the d_model numbers. Count the norms.",
    ),
)

EXERCISES = (
    NEXT_BYTE_PAIRS,
    CAUSAL_MASK,
    ATTENTION_WEIGHTS,
    ROTATE,
    NEXT_BYTE_LOSS,
    TEMPERATURE,
    COUNT_PARAMETERS,
)
