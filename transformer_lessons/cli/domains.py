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
    beyond: dict[str, list[Question]]  # of other kinds, which are not learned along with these

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


def undecided(cycle: bytes, n_seen: int) -> int:
    """The places of a repeated text at which the last `n_seen` bytes leave the next one open.

    >>> undecided(b"aaab", n_seen=3), undecided(b"aaab", n_seen=2)
    (0, 2)
    """
    after: dict[bytes, list[int]] = {}
    text = cycle * (n_seen // len(cycle) + 2)
    for end in range(len(text) - len(cycle), len(text)):
        after.setdefault(text[end - n_seen : end], []).append(text[end])
    return sum(len(found) for found in after.values() if len(set(found)) > 1)


def next_row(row: bytes, rule: int) -> bytes:
    """The row after `row`, by an elementary rule (Wolfram 1983): the new cell is bit n of `rule`
    where the three cells above it spell n.

    >>> next_row(b"00010000", rule=90)
    b'00101000'
    """
    ring = row[-1:] + row + row[:1]
    return b"".join(b"%d" % (rule >> int(ring[i : i + 3], 2) & 1) for i in range(len(row)))


def rows(rule: int, width: int) -> list[Question]:
    """All rows of `width` cells, and what follows each."""
    given = [f"{n:0{width}b}".encode() for n in range(2**width)]
    answers = ({next_row(row, rule)} for row in given)
    return [Question(row, a, a) for row, a in zip(given, answers, strict=True)]


def automaton(rule: int) -> Domain:
    """Rows of one width by one rule. Their positions are learned, so another width is foreign."""
    model = tl.ModelConfig(256, 2 * WIDTH, d_model=32, n_layers=2, n_heads=4, d_ff=128)
    training = TrainConfig(steps=800, batch_size=64, learning_rate=0.005)
    other = 30 if rule == 90 else 90
    beyond = {f"never shown, rows of {n} cells": rows(rule, n) for n in (WIDTH - 1, WIDTH - 2)}
    beyond[f"never shown, rule {other}"] = rows(other, WIDTH)
    about = f"rule {rule} of the elementary cellular automata"
    return Domain(about, model, training, rows(rule, WIDTH), beyond)


def game() -> Domain:
    """All positions of tic-tac-toe, as the moves so far, in which a perfect X is to move."""
    model = tl.ModelConfig(256, 10, d_model=16, n_layers=2, n_heads=4, d_ff=32)
    training = TrainConfig(steps=300, batch_size=64, learning_rate=0.01)
    generator = random.Random(0)
    beyond = {"never shown, after any moves": [stray_position(generator) for _ in range(200)]}
    about = "tic-tac-toe, the moves of a perfect X"
    return Domain(about, model, training, list(positions()), beyond)


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


def question_at(board: str, played: str) -> Question:
    """What X should do, and what it may, after the moves `played`."""
    results = {place: -outcome(after, "O", "X") for place, after in moves(board, "X").items()}
    best = {b"%d" % p for p, result in results.items() if result == max(results.values())}
    return Question(played.encode(), best, {b"%d" % place for place in results})


def positions(board: str = "." * 9, played: str = ".") -> Iterator[Question]:
    """The positions in which X, who plays the first of its best moves, meets any O."""
    if not (options := moves(board, "X")):
        return
    yield (question := question_at(board, played))
    mine = int(min(question.right))
    for place, after in moves(options[mine], "O").items():
        yield from positions(after, f"{played}{mine}{place}")


def stray_position(generator: random.Random) -> Question:
    """A position in which X is to move after two to six moves that were drawn at random."""
    while True:
        board, played = "." * 9, "."
        for mark in "XO" * generator.randint(1, 3):
            place, board = generator.choice([*moves(board, mark).items()] or [(0, "X" * 9)])
            played += str(place)
        if moves(board, "X"):
            return question_at(board, played)
