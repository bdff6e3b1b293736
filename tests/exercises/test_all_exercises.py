"""Every exercise of every lesson is held to the same rules.  # SPEC G4"""

import ast
import inspect
import json
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from transformer_lessons.exercises.exercise import lesson_exercises, lessons
from transformer_lessons.exercises.grader import grade, report

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
EXERCISES = [exercise for lesson in lessons() for exercise in lesson_exercises(lesson)]
WRONG = [
    pytest.param(exercise, wrong, id=f"{exercise.id}-{number}")
    for exercise in EXERCISES
    for number, wrong in enumerate(exercise.wrong_answers)
]

each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.id)


def test_lesson_01_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("01")] == [
        "01.next_byte_pairs",
        "01.causal_mask",
        "01.attention_weights",
        "01.rotate",
        "01.next_byte_loss",
        "01.temperature",
        "01.count_parameters",
    ]


def test_ids_and_messages_are_unique():  # SPEC G4
    ids = [exercise.id for exercise in EXERCISES]
    messages = [wrong.message for exercise in EXERCISES for wrong in exercise.wrong_answers]
    assert len(set(ids)) == len(ids)
    assert len(set(messages)) == len(messages)


@pytest.mark.parametrize("lesson", lessons())
def test_ids_begin_with_their_lesson(lesson):  # SPEC G4
    for exercise in lesson_exercises(lesson):
        assert exercise.id.startswith(f"{lesson}.")


@pytest.mark.parametrize("lesson", lessons())
def test_a_notebook_grades_the_exercises_of_its_lesson(lesson):  # SPEC G4
    [path] = NOTEBOOKS.glob(f"{lesson}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    named = {id for text in sources for id in re.findall(r'\b(?:check|hint)\("([^"]+)"', text)}
    assert named == {exercise.id for exercise in lesson_exercises(lesson)}


@each_exercise
def test_the_reference_passes(exercise):  # SPEC G4
    count = len(exercise.cases)
    assert report(grade(exercise, exercise.reference)) == f"{exercise.id}: correct ({count} cases)."


def in_numpy(value):
    """The same value in NumPy's types, with the widest floats."""
    if isinstance(value, torch.Tensor):
        return value.detach().double().numpy() if value.is_floating_point() else value.numpy()
    if isinstance(value, bool | int | float):
        return np.array(value)[()]
    return tuple(map(in_numpy, value)) if isinstance(value, list) else value


def in_torch(value):
    """The same value in PyTorch's types, and tuples as lists."""
    if isinstance(value, bool | int | float):
        return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
    return list(map(in_torch, value)) if isinstance(value, list | tuple) else value


@each_exercise
@pytest.mark.parametrize("convert", [in_numpy, in_torch])
def test_the_reference_passes_in_other_types(exercise, convert):  # SPEC G4
    verdict = grade(exercise, lambda *arguments: convert(exercise.reference(*arguments)))
    assert verdict, verdict.diagnosis


@pytest.mark.parametrize(("exercise", "wrong"), WRONG)
def test_each_wrong_answer_gets_its_own_message(exercise, wrong):  # SPEC G4
    verdict = grade(exercise, wrong.function)
    assert verdict.diagnosis == wrong.message
    lines = report(verdict).splitlines()
    assert lines[1] == wrong.message
    assert [line[:11] for line in lines if line.startswith("  expected:")] == ["  expected:"]
    assert [line[:6] for line in lines if line.startswith("  got:")] == ["  got:"]


@each_exercise
def test_an_unknown_wrong_answer_is_told_what_differs(exercise):  # SPEC G4
    def perturbed(*arguments):
        return perturb(exercise.reference(*arguments))

    def constant(*arguments):
        return exercise.reference(*exercise.cases[-1])

    for answer in (perturbed, constant):
        verdict = grade(exercise, answer)
        assert verdict.diagnosis.startswith("Not a mistake that this exercise knows by name.")
        assert "expected" in verdict.diagnosis
        assert "got" in verdict.diagnosis
        text = report(verdict)
        assert f"  smallest failing input: {exercise.parameters[0]} = " in text
        assert "\n  expected: " in text
        assert "\n  got:      " in text


@each_exercise
def test_broken_answers_are_explained(exercise):  # SPEC G4
    def raises(*arguments):
        raise RuntimeError("boom")

    beginnings = {
        raises: "Your function stopped with RuntimeError: boom.",
        (lambda *arguments: None): "Your function returned None",
        (lambda *arguments: (x for x in arguments)): "Your function made a generator",
        (
            lambda *arguments: object()
        ): "Not a mistake that this exercise knows by name. What differs: ",
        (lambda: 0): "Your function takes nothing",
    }
    for answer, beginning in beginnings.items():
        assert grade(exercise, answer).diagnosis.startswith(beginning)


@each_exercise
def test_enough_wrong_answers_and_hints(exercise):  # SPEC G4
    assert len(exercise.wrong_answers) >= 3
    assert len(exercise.hints) >= 2
    assert len(set(exercise.hints)) == len(exercise.hints)


@each_exercise
def test_hints_do_not_give_the_answer_away(exercise):  # SPEC G4
    hints = " ".join(exercise.hints).replace(" ", "")
    for expression in expressions(exercise.reference):
        assert expression.replace(" ", "") not in hints


def test_the_hint_test_can_fail():  # SPEC G4
    mask = next(exercise for exercise in EXERCISES if exercise.id == "01.causal_mask")
    found = expressions(mask.reference)
    assert "torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()" in found
    assert "torch.ones(n_tokens, n_tokens, dtype=torch.bool)" in found


def expressions(function):
    """The source of every call, operation and index in a function's body, but for tiny ones."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    telling = (ast.Call, ast.BinOp, ast.Subscript, ast.Compare)
    found = [ast.unparse(node) for node in ast.walk(tree.body[0]) if isinstance(node, telling)]
    annotation = ast.unparse(tree.body[0].returns)
    return [text for text in found if len(text) >= 5 and text not in annotation]


def perturb(value):
    """A wrong value of the same type: one number in it is off, or it is a character too long."""
    if isinstance(value, tuple):
        return (perturb(value[0]), *value[1:])
    if isinstance(value, list):
        return [perturb(value[0]), *value[1:]] if value else [7]
    if isinstance(value, dict):
        return {name: perturb(one) for name, one in value.items()}
    if isinstance(value, torch.Tensor):
        wrong = value.clone()
        first = wrong.view(-1)[:1]
        first.copy_(~first if first.dtype == torch.bool else first + 0.37)
        return wrong
    return value + "7" if isinstance(value, str) else value + 7
