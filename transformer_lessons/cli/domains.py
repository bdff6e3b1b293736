"""What else small models learn: an automaton's next row, and the moves of tic-tac-toe."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import transformer_lessons as tl
from transformer_lessons.training.config import TrainConfig

WIDTH = 8  # cells in a row, which is a ring
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


@dataclass(frozen=True)
class Question:
    """A prompt, its right answers, and those that the rules allow; all of one length."""

    prompt: bytes
    right: set[bytes]
    allowed: set[bytes]


@dataclass(frozen=True)
class Domain:
    """Questions, and a model that is about as small as can learn them."""

    about: str
    model: tl.ModelConfig
    training: TrainConfig
    questions: list[Question]

    def split(self) -> tuple[list[Question], list[Question]]:
        """Those to learn from, and a quarter, drawn at random, that is held back."""
        n = len(self.questions)
        places = set(random.Random(0).sample(range(n), n // 4))
        parts = [
            [q for i, q in enumerate(self.questions) if (i in places) == back] for back in (0, 1)
        ]
        return parts[0], parts[1]


def shares(model: tl.Decoder, questions: Sequence[Question]) -> tuple[float, float]:
    """The shares of the questions that `model` answers rightly, and as the rules allow."""
    counts = [0, 0]
    for question in questions:
        n = len(min(question.right))
        answer = bytes(tl.generate(model, [question.prompt], n, tl.Sampler(temperature=0))[0])
        counts = [counts[0] + (answer in question.right), counts[1] + (answer in question.allowed)]
    return counts[0] / len(questions), counts[1] / len(questions)


def next_row(row: bytes, rule: int) -> bytes:
    """The row after `row`, by an elementary rule (Wolfram 1983): the new cell is bit n of `rule`
    where the three cells above it spell n.

    >>> next_row(b"00010000", rule=90)
    b'00101000'
    """
    ring = row[-1:] + row + row[:1]
    return b"".join(b"%d" % (rule >> int(ring[i : i + 3], 2) & 1) for i in range(len(row)))


def automaton(rule: int) -> Domain:
    """All rows, and what follows each."""
    rows = [f"{n:0{WIDTH}b}".encode() for n in range(2**WIDTH)]
    answers = ({next_row(row, rule)} for row in rows)
    questions = [Question(row, a, a) for row, a in zip(rows, answers, strict=True)]
    model = tl.ModelConfig(256, 2 * WIDTH, d_model=32, n_layers=2, n_heads=4, d_ff=128)
    training = TrainConfig(steps=800, batch_size=64, learning_rate=0.005)
    return Domain(f"rule {rule} of the elementary cellular automata", model, training, questions)


def game() -> Domain:
    """All positions of tic-tac-toe, as the moves so far, in which a perfect X is to move."""
    model = tl.ModelConfig(256, 10, d_model=16, n_layers=2, n_heads=4, d_ff=32)
    training = TrainConfig(steps=300, batch_size=64, learning_rate=0.01)
    return Domain("tic-tac-toe, the moves of a perfect X", model, training, list(positions()))


def has_line(board: str) -> bool:
    """Whether somebody has won."""
    return any(board[a] == board[b] == board[c] != "." for a, b, c in LINES)


def moves(board: str, me: str) -> dict[int, str]:
    """Where `me` can move, and the board then; nowhere when somebody has won."""
    free = [] if has_line(board) else [place for place, mark in enumerate(board) if mark == "."]
    return {place: board[:place] + me + board[place + 1 :] for place in free}


@cache
def outcome(board: str, me: str, other: str) -> int:
    """1, 0 or -1: how it ends for `me`, who is to move, if both play perfectly."""
    if has_line(board):
        return -1  # `other` has just won
    return max((-outcome(after, other, me) for after in moves(board, me).values()), default=0)


def positions(board: str = "." * 9, played: str = ".") -> Iterator[Question]:
    """The positions in which X, who plays the first of its best moves, meets any O."""
    if not (options := moves(board, "X")):
        return
    results = {place: -outcome(after, "O", "X") for place, after in options.items()}
    best = [place for place, result in results.items() if result == max(results.values())]
    right, allowed = ({b"%d" % place for place in places} for places in (best, options))
    yield Question(played.encode(), right, allowed)
    for place, after in moves(options[best[0]], "O").items():
        yield from positions(after, f"{played}{best[0]}{place}")
