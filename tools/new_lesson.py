"""A new lesson to be filled: a notebook that is already run, an exercise, and the exercise's test.

    make lesson NAME=mixture_of_experts

Every check that lessons are held to passes from the start, so what turns red later is yours.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import run_notebooks
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from notebook_files import ROOT, notebook_paths, notebook_text

HEAD = """# {number} · {title}

Say here what the lesson is about, why anybody should want to know it, and what is still open.

**What you will be able to do**

- compute a share (exercise {number}.1)

**Needs:** [lesson 1](01_first_model.ipynb).

**Time:** about 10 minutes to read and run, and 5 minutes for the exercise.

**Budget:** about 20 s · under 1 GB of memory · no download"""

IMPORTS = """# The imports of this lesson and of the modules it lists.
from transformer_lessons.exercises import check, hint"""

FIRST_SECTION = """## A first section

Begin with a question that a reader has, and let the reader guess before the cell answers it.

```{admonition} Predict first
:class: predict
Which share of the bytes of *abracadabra* is an *a*?
```"""

FIRST_CELL = """word = b"abracadabra"
share = word.count(b"a") / len(word)
print(f"{share:.3f}")
assert 0 < share < 1"""

EXERCISES = """## Exercises

`check` runs your function on several inputs and names the mistake. `hint("{lesson}.share")` helps.

```{{admonition}} Exercise {number}.1 · A share
:class: exercise
★☆☆ · 5 minutes. Return the share of `part` in `whole`, a number from 0 to 1.
```"""

ATTEMPT = """def my_share(part, whole):
    raise NotImplementedError  # return a float


check("{lesson}.share", my_share)"""

SOLUTION = """def my_share(part, whole):
    return part / whole


assert check("{lesson}.share", my_share)"""

END = """## Summary

- One line for each thing that readers should keep.

## Quiz

```{admonition} 1. A question that the lesson has answered, in other words?
:class: dropdown quiz
The answer, and why.
```

## Further reading

- The first paper, with its entry in `book/references.bib`, and what to look for in it."""

GRADER = '''"""The exercise of lesson {lesson}: a share."""

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _share(part: int, whole: int) -> float:
    """The share of `part` in `whole`."""
    return part / whole


SHARE = Exercise(
    id="{lesson}.share",
    cases=((1, 2), (3, 4), (2, 8)),
    reference=_share,
    wrong_answers=(
        WrongAnswer(
            lambda part, whole: whole / part,
            "Lesson {lesson}: this is the inverse, how often the part fits into the whole.",
        ),
        WrongAnswer(
            lambda part, whole: part // whole,
            "Lesson {lesson}: this is rounded down to a whole number, and a share is below 1.",
        ),
        WrongAnswer(
            lambda part, whole: 100 * part / whole,
            "Lesson {lesson}: this is in percent, and the share is to be from 0 to 1.",
        ),
    ),
    hints=(
        "What is the share of 1 in 2? Which operation gives it?",
        "One slash divides, and two slashes divide and round down.",
    ),
)

EXERCISES = (SHARE,)
'''

TEST = '''"""The reference of lesson {lesson} against a number worked out by hand."""

from transformer_lessons.exercises.exercise import find_exercise


def test_a_quarter():
    assert find_exercise("{lesson}.share").reference(2, 8) == 0.25
'''

REMAINING = """
Next: fill the notebook and the exercise, and run
  .venv/bin/python tools/run_notebooks.py notebooks/{stem}.ipynb
  .venv/bin/pytest tests/notebooks tests/exercises -k "{lesson} or {stem}"
At the end: a line in book/index.md, and `make notebooks`, which also draws the map of lessons."""


def write_lesson(name: str, root: Path) -> Path:
    """Write the lesson's files, with the next number; return the notebook's path, not yet run."""
    paths = notebook_paths(root)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise SystemExit(f"{name!r} is no name of a lesson: write it as in NAME=mixture_of_experts")
    if any(path.stem[3:] == name for path in paths):
        raise SystemExit(f"there is a lesson called {name}")
    number = int(paths[-1].name[:2]) + 1
    lesson, title = f"{number:02d}", name.replace("_", " ").capitalize()
    path = root / "notebooks" / f"{lesson}_{name}.ipynb"
    path.write_text(notebook_text(lesson_notebook(number, title)), encoding="utf-8")
    exercises = root / "transformer_lessons" / "exercises" / f"lesson_{lesson}.py"
    exercises.write_text(GRADER.format(lesson=lesson), encoding="utf-8")
    test = root / "tests" / "exercises" / f"test_lesson_{lesson}.py"
    test.write_text(TEST.format(lesson=lesson), encoding="utf-8")
    toc = root / "_toc.yml"
    before = f"      - file: notebooks/{paths[-1].stem}\n"
    entry = before.replace(paths[-1].stem, path.stem)
    toc.write_text(toc.read_text("utf-8").replace(before, before + entry), encoding="utf-8")
    return path


def lesson_notebook(number: int, title: str) -> NotebookNode:
    """The lesson's cells, without outputs."""
    lesson = f"{number:02d}"
    shown = {"code_prompt_show": "A solution", "code_prompt_hide": "A solution"}
    cells = [
        new_markdown_cell(HEAD.format(number=number, title=title)),
        new_code_cell(IMPORTS, metadata={"tags": ["hide-input"]}),
        new_markdown_cell(FIRST_SECTION),
        new_code_cell(FIRST_CELL),
        new_markdown_cell(EXERCISES.format(number=number, lesson=lesson)),
        new_code_cell(
            ATTEMPT.format(lesson=lesson), metadata={"tags": ["exercise", "remove-output"]}
        ),
        new_code_cell(
            SOLUTION.format(lesson=lesson),
            metadata={"mystnb": shown, "tags": ["solution", "hide-cell"]},
        ),
        new_markdown_cell(END),
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return new_notebook(cells=cells, metadata=kernel)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write and run the lesson that the one argument names."""
    names = list(sys.argv[1:] if arguments is None else arguments)
    if len(names) != 1:
        raise SystemExit("one name, please: make lesson NAME=mixture_of_experts")
    path = write_lesson(names[0], root)
    code = run_notebooks.main([str(path)], root)
    print(REMAINING.format(stem=path.stem, lesson=path.name[:2]))
    return code


if __name__ == "__main__":
    sys.exit(main())
