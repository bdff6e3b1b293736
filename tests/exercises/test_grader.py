"""The grader on small exercises of its own: what a learner is told, word for word.  # SPEC G4"""

import contextlib
import time

import IPython
import pytest
import torch

from transformer_lessons.errors import LessonsError
from transformer_lessons.exercises import check, grader, hint
from transformer_lessons.exercises.exercise import Exercise, WrongAnswer, find_exercise
from transformer_lessons.exercises.grader import call, grade, report

TOTAL = Exercise(
    id="00.total",
    cases=(([2],), ([1, 2],), ([1, 2, 4],)),
    reference=lambda numbers: sum(numbers),
    wrong_answers=(
        WrongAnswer(lambda numbers: max(numbers), "This is the largest number."),
        WrongAnswer(lambda numbers: numbers[0], "This is the first number."),
        WrongAnswer(lambda numbers: numbers[-1] + 0.0, "This is the last number."),
    ),
    hints=("Add.", "Add them all."),
)


def total_in_pieces(numbers):
    return sum(numbers[:1]) + sum(numbers[1:])


def prints_and_returns(numbers):
    print("adding", numbers)
    return sum(numbers)


# --- right answers ---------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [sum, total_in_pieces, lambda n: sum(n), prints_and_returns])
def test_every_way_of_being_right_passes(answer, capsys):  # SPEC G4
    verdict = grade(TOTAL, answer)
    assert verdict.correct
    assert report(verdict) == "00.total: correct (3 cases)."
    assert capsys.readouterr().out == ""  # grading itself prints nothing


# --- known and unknown wrong answers ---------------------------------------------------------


def test_known_misconception_is_named_and_shown_on_the_smallest_failing_case():  # SPEC G4
    text = report(grade(TOTAL, lambda numbers: sorted(numbers)[-1]))
    assert text.splitlines() == [
        "00.total: not yet.",
        "This is the largest number.",
        "  smallest failing input: numbers = [1, 2]",
        "  expected: 3",
        "  got:      2",
        'For a hint: hint("00.total")',
    ]


def test_misconception_needs_agreement_on_every_case():  # SPEC G4
    def largest_of_two(numbers):
        return max(numbers) if len(numbers) < 3 else 5

    assert grade(TOTAL, largest_of_two).diagnosis == (
        "Not a mistake that this exercise knows by name. What differs: expected 3, got 2."
    )


def test_unknown_table_says_where_and_how_much():  # SPEC G4
    exercise = Exercise("00.eye", ((1,), (2,)), reference=lambda n: torch.eye(n))
    verdict = grade(exercise, lambda n: torch.eye(n) + torch.ones(n, n).triu(1) / 8)
    assert verdict.diagnosis == (
        "Not a mistake that this exercise knows by name. "
        "What differs: at [0, 1]: expected 0.0, got 0.125 (1 of 4 values differ)."
    )
    assert report(verdict).splitlines()[2:] == [
        "  smallest failing input: n = 2",
        "  expected: [[1.0, 0.0],",
        "             [0.0, 1.0]]",
        "  got:      [[1.0, 0.125],",
        "             [0.0, 1.0]]",
    ]


# --- answers that are no answer --------------------------------------------------------------


def raises(numbers):
    return numbers[7]


def raises_in_a_helper(numbers):
    return sum(numbers) + raises(numbers)


def raises_many_lines(numbers):
    raise ValueError("first line\nsecond line at 0x7f001234")


def yields(numbers):
    yield sum(numbers)


def mutates(numbers):
    numbers.append(0)
    return sum(numbers)


def mutates_and_is_wrong(numbers):
    return numbers.pop() + 100


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (
            raises,
            "Your function stopped with IndexError: list index out of range."
            f" Line {raises.__code__.co_firstlineno + 1}: `return numbers[7]`.",
        ),
        (
            raises_in_a_helper,
            "Your function stopped with IndexError: list index out of range."
            f" Line {raises.__code__.co_firstlineno + 1}: `return numbers[7]`.",
        ),
        (
            raises_many_lines,
            "Your function stopped with ValueError: first line."
            f" Line {raises_many_lines.__code__.co_firstlineno + 1}: "
            '`raise ValueError("first line\\nsecond line at 0x7f001234")`.',
        ),
        (lambda numbers: None, "Your function returned None: did you forget `return`?"),
        (
            lambda numbers: print(sum(numbers)),
            "Your function prints its result and returns None: use `return` instead of `print`.",
        ),
        (
            yields,
            "Your function made a generator, which has computed nothing yet: return the value.",
        ),
        (lambda: 3, "Your function takes nothing, but it is called with (numbers)."),
        (lambda a, b: 3, "Your function takes a, b, but it is called with (numbers)."),
        (
            mutates,
            "Your function changes its argument `numbers` for whoever called it. "
            "Leave the arguments as they are and build a new value.",
        ),
        (
            mutates_and_is_wrong,
            "Your function changes its argument `numbers` for whoever called it. "
            "Leave the arguments as they are and build a new value.",
        ),
        (
            lambda numbers: str(sum(numbers)),
            "Not a mistake that this exercise knows by name. "
            "What differs: expected type int, got str.",
        ),
        (
            lambda numbers: raises,
            "Not a mistake that this exercise knows by name. "
            "What differs: expected type int, got function.",
        ),
        (
            lambda numbers: (sum(numbers),),
            "Not a mistake that this exercise knows by name. "
            "What differs: expected type int, got tuple.",
        ),
    ],
)
def test_what_goes_wrong_is_explained_in_a_sentence(answer, diagnosis):  # SPEC G4
    verdict = grade(TOTAL, answer)
    assert verdict.diagnosis == diagnosis
    text = report(verdict)
    assert "  smallest failing input: numbers = [2]\n  expected: 2\n  got:      " in text
    assert "Traceback" not in text
    assert "0x" not in text.replace("0x7f001234", "")  # no addresses, or outputs would change


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(3, "int"), (torch.ones(2, 2), "Tensor"), ("sum", "str"), (None, "NoneType")],
)
def test_a_value_instead_of_a_function(answer, kind):  # SPEC G4
    assert report(grade(TOTAL, answer)).splitlines() == [
        "00.total: not yet.",
        f"This has type {kind}: it is not a function. Hand over the function itself, without "
        'calling it: check("00.total", my_function).',
        'For a hint: hint("00.total")',
    ]


def test_what_a_failing_call_prints_is_shown():  # SPEC G4
    def debugging(numbers):
        print("so far", len(numbers))
        return -1

    assert "  printed:  so far 1\n" in report(grade(TOTAL, debugging))


def test_mutation_does_not_reach_the_cases():  # SPEC G4
    grade(TOTAL, mutates)
    assert TOTAL.cases[0] == ([2],)


def test_mutated_tensors_are_noticed():  # SPEC G4
    exercise = Exercise("00.twice", ((torch.tensor([1.0]),),), reference=lambda scores: scores * 2)
    assert "`scores`" in grade(exercise, lambda scores: scores.mul_(2)).diagnosis
    assert exercise.cases[0][0].tolist() == [1.0]


def test_an_interrupt_still_interrupts():  # SPEC G4
    def endless(numbers):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grade(TOTAL, endless)


def test_an_endless_loop_ends(monkeypatch):  # SPEC G4
    def endless(numbers):
        while True:
            with contextlib.suppress(Exception):
                print("still here")

    monkeypatch.setattr(grader, "TIME_LIMIT", 0.2)
    verdict = grade(TOTAL, endless)
    assert verdict.diagnosis.startswith("Your function did not come back within")
    assert "smallest failing input: numbers = [2]" in report(verdict)


def test_a_right_answer_leaves_no_alarm_behind(monkeypatch):  # SPEC G4
    monkeypatch.setattr(grader, "TIME_LIMIT", 0.2)
    assert grade(TOTAL, sum).correct
    before = time.perf_counter()
    while time.perf_counter() < before + 0.4:  # the alarm of `grade` would ring in here
        pass


def test_endless_printing_is_cut():  # SPEC G4
    def talkative(numbers):
        for _ in range(100_000):
            print("again and again")
        return sum(numbers)

    assert len(call(talkative, ([2],)).printed) == grader.LONGEST_OUTPUT


def test_an_exercise_that_was_not_attempted_gives_nothing_away():  # SPEC G4
    def todo(numbers):
        raise NotImplementedError

    verdict = grade(TOTAL, todo)
    assert not verdict
    assert report(verdict) == (
        "00.total: not attempted yet: put your code where it says `raise NotImplementedError`."
    )


def test_a_notebook_shows_nothing_for_a_verdict(capsys):  # SPEC G4
    data, _ = IPython.core.formatters.DisplayFormatter().format(grade(TOTAL, sum))
    assert data == {}


# --- check, hint and the ids -----------------------------------------------------------------


def test_check_prints_and_tells(capsys):  # SPEC G4
    assert check("01.causal_mask", lambda n: torch.arange(n)[:, None] >= torch.arange(n))
    assert capsys.readouterr().out == "01.causal_mask: correct (5 cases).\n"
    assert not check("01.causal_mask", lambda n: torch.arange(n)[:, None] > torch.arange(n))
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "01.causal_mask: not yet."
    assert second.startswith("No position can see itself")


def test_hints_come_one_at_a_time(capsys):  # SPEC G4
    first, second = find_exercise("01.causal_mask").hints
    hint("01.causal_mask")
    assert capsys.readouterr().out == f"01.causal_mask, hint 1 of 2: {first}\n"
    hint("01.causal_mask", 2)
    assert capsys.readouterr().out == f"01.causal_mask, hint 2 of 2: {second}\n"


@pytest.mark.parametrize("number", [0, 3, -1, "1", 1.5])
def test_no_such_hint(number):  # SPEC G4
    with pytest.raises(LessonsError) as caught:
        hint("01.causal_mask", number)
    assert str(caught.value) == f"no hint {number!r} (01.causal_mask). Its hints are 1 to 2."


def test_unknown_exercise_suggests_the_closest_and_lists_all():  # SPEC G4
    with pytest.raises(LessonsError) as caught:
        check("01.casual_mask", lambda n: n)
    text = str(caught.value)
    assert text.startswith("unknown exercise '01.casual_mask'. Did you mean 01.causal_mask? Known")
    assert "01.next_byte_pairs" in text
    assert "01.count_parameters" in text


@pytest.mark.parametrize("exercise_id", ["", "causal_mask", "99.x", "../x", "grader.x", "01"])
def test_unknown_lesson_is_refused(exercise_id):  # SPEC G4
    with pytest.raises(LessonsError, match=r"unknown exercise .*01\.causal_mask"):
        check(exercise_id, lambda n: n)


def test_swapped_arguments_are_explained():  # SPEC G4
    with pytest.raises(LessonsError, match="named by text, not by a value of type function"):
        check(total_in_pieces, "01.causal_mask")
