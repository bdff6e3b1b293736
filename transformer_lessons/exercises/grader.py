"""Judging an attempt at an exercise: run it, compare it, and find the misconception behind it.

`grade` decides and `report` puts the verdict into words; neither prints.
"""

import contextlib
import copy
import ctypes
import inspect
import io
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from transformer_lessons.exercises.compare import difference, show
from transformer_lessons.exercises.exercise import Exercise

TIME_LIMIT = 20.0  # seconds that all calls of an answer may take together
LONGEST_OUTPUT = 10_000  # characters that are kept of what an answer prints
NOT_ATTEMPTED = "not attempted yet: put your code where it says `raise NotImplementedError`."
TOO_SLOW = f"Your function did not come back within {TIME_LIMIT:.0f} seconds: does a loop ever end?"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one call did: the value it returned (or the exception it raised) and what it printed.

    `problem` is a sentence when the call went wrong in a way that no value can be compared.
    """

    value: Any
    printed: str = ""
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Verdict:
    """Whether an answer is right and, if not, why, shown on the smallest case that fails.

    `case` and `expected` and `outcome` are None when the answer is right, or could not be run.
    """

    exercise: Exercise
    diagnosis: str = ""  # "" when the answer is right
    case: tuple[Any, ...] | None = None
    expected: Any = None
    outcome: Outcome | None = None

    @property
    def correct(self) -> bool:
        """Whether every case came out right."""
        return not self.diagnosis

    def __bool__(self) -> bool:
        return self.correct

    def _ipython_display_(self) -> None:
        """A notebook shows nothing for it: `check` has printed what there is to say."""


def grade(exercise: Exercise, answer: Any) -> Verdict:
    """Compare `answer` with the exercise's reference on every case, and diagnose what differs.

    >>> double = Exercise("00.double", ((1,), (3,)), reference=lambda n: 2 * n)
    >>> grade(double, lambda n: n + n).correct
    True
    >>> grade(double, lambda n: n + 1).diagnosis
    'Not a mistake that this exercise knows by name. What differs: expected 6, got 4.'
    """
    if not callable(answer):
        return Verdict(
            exercise,
            f"This has type {type(answer).__name__}: it is not a function. Hand over the function "
            f'itself, without calling it: check("{exercise.id}", my_function).',
        )
    expected = [call(exercise.reference, case).value for case in exercise.cases]
    outcomes = _attempts(exercise, answer)
    if isinstance(outcomes[0].value, NotImplementedError):
        return Verdict(exercise, NOT_ATTEMPTED)
    for case, wanted, outcome in zip(exercise.cases, expected, outcomes, strict=False):
        differs = difference(wanted, outcome.value, exercise.tolerance)
        if outcome.problem or differs:
            diagnosis = outcome.problem or _misconception(exercise, outcomes)
            unknown = f"Not a mistake that this exercise knows by name. What differs: {differs}."
            return Verdict(exercise, diagnosis or unknown, case, wanted, outcome)
    return Verdict(exercise)


def call(function: Callable[..., Any], case: tuple[Any, ...]) -> Outcome:
    """Call `function` on `case`, keeping what it prints; what it raises becomes the value.

    >>> call(lambda n: print(n), (3,)).printed
    '3\\n'
    """
    printed = _BoundedOutput()
    try:
        with contextlib.redirect_stdout(printed):
            value = function(*case)
    except Exception as error:
        return Outcome(error, printed.getvalue(), _explain_exception(error, function))
    return Outcome(value, printed.getvalue())


def report(verdict: Verdict) -> str:
    """The verdict in words: one line when it is right; else why not, and where it shows.

    >>> double = Exercise("00.double", ((1,), (3,)), reference=lambda n: 2 * n)
    >>> print(report(grade(double, lambda n: 2 * n)))
    00.double: correct (2 cases).
    """
    exercise = verdict.exercise
    if verdict.correct:
        return f"{exercise.id}: correct ({len(exercise.cases)} cases)."
    if verdict.diagnosis == NOT_ATTEMPTED:
        return f"{exercise.id}: {NOT_ATTEMPTED}"
    lines = [f"{exercise.id}: not yet.", verdict.diagnosis]
    if verdict.case is not None and verdict.outcome is not None:
        arguments = zip(exercise.parameters, verdict.case, strict=True)
        # Hanging values keep the rows of a table under each other.
        shown = [_hang(f"{name} = ", show(value)) for name, value in arguments]
        separator = ",\n" if any("\n" in text for text in shown) else ", "
        lines.append(_hang("  smallest failing input: ", separator.join(shown)))
        expected, got = show(verdict.expected), show(verdict.outcome.value)
        if expected == got:  # they differ where rounding hides it
            expected, got = show(verdict.expected, 9), show(verdict.outcome.value, 9)
        lines.append(_hang("  expected: ", expected))
        lines.append(_hang("  got:      ", got))
        if verdict.outcome.printed:
            text = textwrap.shorten(verdict.outcome.printed, 80, placeholder=" …")
            lines.append(f"  printed:  {text}")
    if exercise.hints:
        lines.append(f'For a hint: hint("{exercise.id}")')
    return "\n".join(lines)


class _OutOfTime(BaseException):
    """Raised inside a learner's function that takes too long; `except Exception` lets it pass."""


class _BoundedOutput(io.StringIO):
    """Keeps the first `LONGEST_OUTPUT` characters of what is printed: it may be endless."""

    def write(self, text: str) -> int:
        super().write(text[: max(LONGEST_OUTPUT - self.tell(), 0)])
        return len(text)


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `_OutOfTime` in this thread after so many seconds, between two steps of Python."""
    thread, lock, is_over = threading.get_ident(), threading.Lock(), False

    def stop() -> None:
        with lock:
            if not is_over:
                raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
                raise_in(ctypes.c_ulong(thread), ctypes.py_object(_OutOfTime))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            is_over = True
        timer.cancel()


def _attempts(exercise: Exercise, answer: Callable[..., Any]) -> list[Outcome]:
    """The outcome of each case; an answer that takes too long ends with the case it hangs in."""
    outcomes: list[Outcome] = []
    try:
        with _time_limit(TIME_LIMIT):
            for case in exercise.cases:
                outcomes.append(_attempt(exercise, answer, case))
    except _OutOfTime:
        outcomes.append(Outcome(TimeoutError(), problem=TOO_SLOW))
    return outcomes[: len(exercise.cases)]


def _attempt(exercise: Exercise, answer: Callable[..., Any], case: tuple[Any, ...]) -> Outcome:
    """One call of a learner's function, which may go wrong in ways that a reference doesn't."""
    if problem := _arity_problem(exercise, answer):
        return Outcome(TypeError(), problem=problem)
    arguments = copy.deepcopy(case)
    outcome = call(answer, arguments)
    problem = outcome.problem or _unfinished(outcome)
    for name, before, after in zip(exercise.parameters, case, arguments, strict=True):
        if not problem and difference(before, after):
            problem = (
                f"Your function changes its argument `{name}` for whoever called it. "
                "Leave the arguments as they are and build a new value."
            )
    return Outcome(outcome.value, outcome.printed, problem)


def _misconception(exercise: Exercise, outcomes: list[Outcome]) -> str:
    """The message of the known wrong answer that gives the same values in every case, or ""."""
    if len(outcomes) < len(exercise.cases):  # it was stopped
        return ""
    for wrong in exercise.wrong_answers:
        values = [call(wrong.function, case).value for case in exercise.cases]
        pairs = zip(values, outcomes, strict=True)
        if not any(difference(value, got.value, exercise.tolerance) for value, got in pairs):
            return wrong.message
    return ""


def _arity_problem(exercise: Exercise, answer: Callable[..., Any]) -> str:
    try:
        signature = inspect.signature(answer)
    except ValueError:  # some functions written in C don't say what they take
        return ""
    try:
        signature.bind(*exercise.parameters)
    except TypeError:
        taken = ", ".join(signature.parameters) or "nothing"
        wanted = f"({', '.join(exercise.parameters)})"
        return f"Your function takes {taken}, but it is called with {wanted}."
    return ""


def _unfinished(outcome: Outcome) -> str:
    if outcome.value is None and outcome.printed:
        return "Your function prints its result and returns None: use `return` instead of `print`."
    if outcome.value is None:
        return "Your function returned None: did you forget `return`?"
    if isinstance(outcome.value, GeneratorType):
        return "Your function made a generator, which has computed nothing yet: return the value."
    return ""


def _explain_exception(error: Exception, function: Callable[..., Any]) -> str:
    text = str(error).strip().split("\n")[0]
    reason = f": {textwrap.shorten(text, 160, placeholder=' …')}" if text else ""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    place = f" Line {frames[-1].lineno}: `{frames[-1].line}`." if frames and frames[-1].line else ""
    return f"Your function stopped with {type(error).__name__}{reason}.{place}"


def _hang(label: str, text: str) -> str:
    return label + text.replace("\n", "\n" + " " * len(label))
