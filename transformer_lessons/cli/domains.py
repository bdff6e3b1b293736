"""What else the smallest models learn: a cellular automaton's next row, and moves of a game.

Each domain is pairs of a question and its answers, part of which is held back: what is right there
was not learned by heart.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import transformer_lessons as tl
from transformer_lessons.config import ModelConfig
from transformer_lessons.data.pairs import Pair
from transformer_lessons.errors import LessonsError
from transformer_lessons.training.config import TrainConfig

WIDTH = 8  # cells in a row, which is a ring
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


@dataclass(frozen=True)
class Question:
    """A prompt, its right answers, and those that the rules allow; all of one length."""

    prompt: bytes
    right: set[bytes]
    allowed: set[bytes]

    @property
    def pair(self) -> Pair:
        """The prompt and the first of the right answers, to be trained on."""
        return self.prompt, min(self.right)


@dataclass(frozen=True)
class Domain:
    """A model that is about as small as can learn it, and questions to train on and to ask."""

    about: str
    model: ModelConfig
    training: TrainConfig
    learned: list[Question]
    held_back: list[Question]


def shares(model: "tl.Decoder", questions: Sequence[Question]) -> tuple[float, float]:
    """The shares of the questions that `model` answers rightly, and as the rules allow."""
    made = [
        bytes(tl.generate(model, [question.prompt], len(min(question.right)), tl.Sampler(0))[0])
        for question in questions
    ]
    both = list(zip(made, questions, strict=True))
    right = sum(answer in question.right for answer, question in both)
    return right / len(both), sum(answer in question.allowed for answer, question in both) / len(
        both
    )


def next_row(row: bytes, rule: int) -> bytes:
    """The row after `row` of "0" and "1", by an elementary rule (Wolfram 1983): bit n of `rule`
    is the new cell where the three above it spell n in binary.

    >>> next_row(b"00010000", rule=90)
    b'00101000'
    """
    threes = ((row[i - 1 : i] or row[-1:]) + row[i : i + 1] + row[(i + 1) % WIDTH :][:1]
              for i in range(WIDTH))  # fmt: skip
    return b"".join(b"%d" % (rule >> int(three, 2) & 1) for three in threes)


def automaton(rule: int) -> Domain:
    """All rows, and what follows each."""
    if not 0 <= rule <= 255:
        raise LessonsError(f"rule = {rule} is not from 0 to 255", where="--rule")
    rows = [f"{n:08b}".encode() for n in range(2**WIDTH)]
    questions = [Question(row, {next_row(row, rule)}, {next_row(row, rule)}) for row in rows]
    model = ModelConfig(256, 2 * WIDTH, d_model=32, n_layers=2, n_heads=4, d_ff=64)
    training = TrainConfig(steps=600, batch_size=64, learning_rate=0.005, min_learning_rate=0.0005)
    about = f"rule {rule} of the elementary cellular automata"
    return Domain(about, model, training, *hold_back(questions))


def hold_back(questions: list[Question]) -> tuple[list[Question], list[Question]]:
    """A quarter of the questions, drawn at random, is not learned from."""
    places = set(random.Random(0).sample(range(len(questions)), len(questions) // 4))
    learned = [question for n, question in enumerate(questions) if n not in places]
    return learned, [questions[n] for n in sorted(places)]


def has_line(board: str) -> bool:
    """Whether somebody has won."""
    return any(board[a] == board[b] == board[c] != "." for a, b, c in LINES)


def moves(board: str, me: str) -> dict[int, str]:
    """Where `me` can move, and the board then."""
    free = [place for place, mark in enumerate(board) if mark == "."]
    return {place: board[:place] + me + board[place + 1 :] for place in free}


@cache
def outcome(board: str, me: str, other: str) -> int:
    """1, 0 or -1: how it ends for `me`, who is to move, if both play perfectly."""
    if has_line(board):
        return -1  # `other` has just won
    return max((-outcome(after, other, me) for after in moves(board, me).values()), default=0)


def positions(board: str = "." * 9, played: str = ".") -> Iterator[Question]:
    """All positions in which a perfect X is to move, against an O that plays anything."""
    options = {} if has_line(board) else moves(board, "X")
    if not options:
        return
    results = {place: -outcome(after, "O", "X") for place, after in options.items()}
    best = [place for place, result in results.items() if result == max(results.values())]
    right, allowed = ({b"%d" % place for place in places} for places in (best, options))
    yield Question(played.encode(), right, allowed)
    board = options[best[0]]
    for place, after in moves(board, "O").items() if not has_line(board) else ():
        yield from positions(after, f"{played}{best[0]}{place}")


def game() -> Domain:
    """Tic-tac-toe, the places called 0 to 8."""
    model = ModelConfig(256, 10, d_model=16, n_layers=2, n_heads=4, d_ff=32)
    training = TrainConfig(steps=300, batch_size=64, learning_rate=0.01, min_learning_rate=0.001)
    about = "tic-tac-toe, the moves of a perfect player"
    return Domain(about, model, training, *hold_back(list(positions())))
