"""Exercises that grade themselves: `check("01.causal_mask", my_function)` and `hint`."""

from typing import Any

from transformer_lessons.errors import LessonsError
from transformer_lessons.exercises.exercise import find_exercise
from transformer_lessons.exercises.grader import Verdict, grade, report

__all__ = ["check", "hint"]


def check(exercise_id: str, answer: Any) -> Verdict:
    """Run `answer` on the exercise's cases and print what came of it; true when it is right.

    A wrong answer gets the misconception behind it, where the exercise knows it, and the smallest
    input that shows it. It may take 20 seconds in all. An unknown `exercise_id` raises
    `LessonsError`.

    >>> import torch
    >>> verdict = check("01.causal_mask", lambda n: torch.ones(n, n, dtype=torch.bool).tril(1))
    01.causal_mask: not yet.
    Each position can also see the next one: is your comparison >= where > is meant?
      smallest failing input: n_tokens = 2
      expected: [[True, False],
                 [True, True]]
      got:      [[True, True],
                 [True, True]]
    For a hint: hint("01.causal_mask")
    >>> bool(check("01.causal_mask", lambda n: torch.ones(n, n, dtype=torch.bool).tril()))
    01.causal_mask: correct (5 cases).
    True
    """
    verdict = grade(find_exercise(exercise_id), answer)
    print(report(verdict))
    return verdict


def hint(exercise_id: str, number: int = 1) -> None:
    """Print hint `number` of an exercise; a number it does not have raises `LessonsError`.

    >>> hint("01.temperature")
    01.temperature, hint 1 of 2: Temperature acts on the scores, before they become probabilities.
    """
    hints = find_exercise(exercise_id).hints
    if number not in range(1, len(hints) + 1):
        raise LessonsError(
            f"no hint {number!r}", where=exercise_id, remedy=f"Its hints are 1 to {len(hints)}."
        )
    print(f"{exercise_id}, hint {number} of {len(hints)}: {hints[number - 1]}")
