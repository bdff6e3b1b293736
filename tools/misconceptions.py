"""The page "What learners get wrong", from the wrong answers that the graders know by name.

`publish.py` writes it. Titles of lessons and exercises are read from the notebooks.
"""

import re
from html import escape
from pathlib import Path

from book_extension import anchor
from nbformat import NotebookNode
from notebook_files import ROOT, notebook_paths, read_notebook, tags

from transformer_lessons.exercises.exercise import lesson_exercises, lessons

PAGE = Path("book/misconceptions.md")
TITLE = re.compile(r"\{admonition\} Exercise (\d+\.\d+) · (.+)")
CODE = re.compile(r"`[^`]+`|\b\w+_\w+\b(?:\[\w+\])?|<\|\w+\|>")
INTRODUCTION = (
    "The graders of this book know {n} wrong answers to its exercises by name. Behind each is a "
    "slip or a misconception, and whoever hands it in is told which one, on the smallest input "
    "that shows it. Here are all of them. Those of an exercise that you have not tried yet give "
    "a part of its answer away, so come back afterwards. Come back, too, when a model of your "
    "own behaves oddly: real programs have the same mistakes, and there nothing names them."
)


def misconceptions_page(root: Path = ROOT) -> str:
    """The page in MyST Markdown: a section for each lesson, a list for each exercise."""
    paths = {path.name[:2]: path for path in notebook_paths(root)}
    parts, n = [], 0
    for lesson in lessons():
        notebook = read_notebook(paths[lesson])
        exercises = {exercise.id: exercise for exercise in lesson_exercises(lesson)}
        title = notebook.cells[0].source.split("\n")[0].removeprefix("# ")
        parts.append(f"## {title}")
        for name, (number, words) in exercise_titles(notebook).items():
            target = f"../notebooks/{paths[lesson].stem}.html#{anchor(number)}"
            heading = f'**<a href="{target}">{number} · {escape(words)}</a>**'
            messages = [
                f"- {as_markdown(wrong.message)}" for wrong in exercises[name].wrong_answers
            ]
            n += len(messages)
            parts.append("\n".join([heading, "", *messages]))
    head = ["# What learners get wrong", INTRODUCTION.format(n=n)]
    return "\n\n".join([*head, *parts]) + "\n"


def exercise_titles(notebook: NotebookNode) -> dict[str, tuple[str, str]]:
    """For each exercise that a notebook grades, the number and title of the box before it."""
    found: dict[str, tuple[str, str]] = {}
    title = ("", "")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            title = ([title, *TITLE.findall(cell.source)])[-1]
        elif "exercise" in tags(cell):
            found |= dict.fromkeys(re.findall(r'\bcheck\("([^"]+)"', cell.source), title)
    return found


def as_markdown(message: str) -> str:
    """A message of plain text as Markdown, with names of code set as code.

    >>> print(as_markdown("x[t] * 2 is d_ff, <|end|> not."))
    x\\[t\\] \\* 2 is `d_ff`, `<|end|>` not.
    """
    parts, end = [], 0
    for code in CODE.finditer(message):
        parts += [plain(message[end : code.start()]), f"`{code[0].strip('`')}`"]
        end = code.end()
    return "".join([*parts, plain(message[end:])])


def plain(text: str) -> str:
    return re.sub(r"([\\*_<\[\]$|{}#~])", r"\\\1", text)
