"""What an exercise is made of, and how it is found.

The exercises of lesson 07 are the tuple `EXERCISES` in `lesson_07.py`, and their ids start with
"07.". Adding that file is all it takes: `check` and the tests find it by its name.
"""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformer_lessons.errors import LessonsError


@dataclass(frozen=True, eq=False)
class WrongAnswer:
    """A plausible wrong `function`, and the `message` that names the misconception behind it."""

    function: Callable[..., Any]
    message: str


@dataclass(frozen=True, eq=False)
class Exercise:
    """A function to write, with all that is needed to judge an attempt at it.

    Arguments and results are data: numbers, text, bytes, tensors, arrays, and lists, tuples and
    dictionaries of them.

    >>> double = Exercise("00.double", ((1,), (3,)), reference=lambda n: 2 * n)
    >>> double.parameters
    ['n']
    """

    id: str  # lesson and name, "01.causal_mask"
    cases: tuple[tuple[Any, ...], ...]  # the arguments of each call, the smallest case first
    reference: Callable[..., Any]  # the right answer
    wrong_answers: tuple[WrongAnswer, ...] = ()  # at least three, told apart by the cases
    hints: tuple[str, ...] = ()  # at least two, from a nudge to nearly there
    tolerance: float = 1e-5  # how far a number may be off: tolerance * (1 + |expected|)

    @property
    def parameters(self) -> list[str]:
        """The names of the function's arguments."""
        return list(inspect.signature(self.reference).parameters)


def lessons() -> list[str]:
    """The numbers of the lessons that have exercises, in order.

    >>> lessons()[0]
    '01'
    """
    modules = pkgutil.iter_modules([str(Path(__file__).parent)])
    prefix = "lesson_"
    return sorted(m.name.removeprefix(prefix) for m in modules if m.name.startswith(prefix))


def lesson_exercises(lesson: str) -> tuple[Exercise, ...]:
    """The exercises of one lesson, by its number as `lessons` gives it.

    >>> lesson_exercises("01")[0].id
    '01.next_byte_pairs'
    """
    return importlib.import_module(f"{__package__}.lesson_{lesson}").EXERCISES


def find_exercise(exercise_id: str) -> Exercise:
    """The exercise called `exercise_id`; an unknown one raises `LessonsError`, with the known ids.

    >>> find_exercise("01.rotate").parameters
    ['x', 'y', 'position']
    """
    if not isinstance(exercise_id, str):
        raise LessonsError(
            f"an exercise is named by text, not by a value of type {type(exercise_id).__name__}",
            remedy='Write check("01.causal_mask", my_function).',
        )
    lesson = exercise_id.split(".")[0]
    # Only the lesson that is asked for gets imported, unless there is no such lesson.
    searched = [lesson] if lesson in lessons() else lessons()
    known = {exercise.id: exercise for name in searched for exercise in lesson_exercises(name)}
    if exercise_id not in known:
        close = difflib.get_close_matches(exercise_id, known, n=1)
        suggestion = f"Did you mean {close[0]}? " if close else ""
        remedy = f"{suggestion}Known exercises: {', '.join(known)}."
        raise LessonsError(f"unknown exercise {exercise_id!r}", remedy=remedy)
    return known[exercise_id]
