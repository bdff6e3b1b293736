"""The notebooks are executed, in order, clean and accessible: the real ones, and broken copies.

# SPEC G2, G11
"""

import json

import pytest
from notebook_checks import check_notebook
from notebook_files import ROOT, notebook_paths, notebook_text, read_notebook

NOTEBOOKS = notebook_paths(ROOT)


def test_there_are_notebooks():  # SPEC G2
    assert NOTEBOOKS, "notebooks/ is empty"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_as_it_should_be(path):  # SPEC G2, G11
    problems = [str(problem) for problem in check_notebook(path, ROOT / "_toc.yml")]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stripped_copy_of_the_notebook_is_found(path, tmp_path):  # SPEC G2
    notebook = read_notebook(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(execution_count=None, outputs=[])
    copy = tmp_path / path.name
    copy.write_text(notebook_text(notebook), encoding="utf-8")
    problems = [problem.what for problem in check_notebook(copy, ROOT / "_toc.yml")]
    assert "execution count None instead of 1" in problems
    assert "its output is missing" in problems


def uncleaned(sources: list[str]) -> list[str]:
    """The cells that split modules of the library by their text as it is in the file."""
    found = [source for source in sources if "split_of(" in source and "python_sources()" in source]
    return [source for source in found if "clean(" not in source]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_the_shipped_model_has_not_seen_is_found_as_its_data_were_split(path):
    # They were cleaned before: most modules whose raw text hashes to "test" were trained on.
    sources = [cell.source for cell in read_notebook(path).cells if cell.cell_type == "code"]
    if any("load_shipped()" in source for source in sources):
        # Lesson 25 also splits for a model of its own, which reads bytes.
        assert [source for source in uncleaned(sources) if "d.text.encode()" not in source] == []
    wrong = "[d for d in python_sources() if split_of(d.text, 0.05, 0.05) == 'test']"
    assert uncleaned([wrong, wrong.replace("d.text", "clean(d.text)[0]")]) == [wrong]


# --- a small notebook, broken in one place at a time -----------------------------------------
# Its cells: 1 budget, 2 a value, 3 a figure, 4 an image, 5 an error, 6 exercise, 7 solution.


def problems_of(lesson, change=None) -> list[str]:
    """What the check says once `change` has been done to the list of cells."""
    notebook = json.loads(lesson.read_text())
    if change:
        change(notebook["cells"])
    lesson.write_text(json.dumps(notebook))
    toc = lesson.parents[1] / "_toc.yml"
    return [f"{p.where.split(', ')[1]}: {p.what}" for p in check_notebook(lesson, toc)]


def test_small_notebook_passes(lesson):
    assert problems_of(lesson) == []


def test_stripped(lesson):  # SPEC G2
    def strip(cells):
        for cell in cells:
            if cell["cell_type"] == "code":
                cell.update(execution_count=None, outputs=[])

    assert problems_of(lesson, strip) == [
        "cell 2: execution count None instead of 1",
        "cell 3: execution count None instead of 2",
        "cell 5: execution count None instead of 3",
        "cell 7: execution count None instead of 4",
        "cell 5: tagged raises-exception, and none is stored",
        "cell 2: its output is missing",
        "cell 3: its output is missing",
        "cell 5: its output is missing",
    ]


def test_outputs_cleared_but_counts_kept(lesson):
    assert problems_of(lesson, lambda cells: cells[1].update(outputs=[])) == [
        "cell 2: its output is missing"
    ]


@pytest.mark.parametrize(
    ("source", "is_certain"),
    [
        ("print(x)", True),
        ("for i in range(3):\n    print(i)", True),
        ("with noted() as n:\n    plt.show()", True),
        ("loss = 1\nloss", True),
        ('f"{loss:.2f}"', True),
        ('check("01.rotate", turn)', True),
        ("if loss > 1:\n    print(loss)", False),
        ("model.eval()", False),
        ("loss = 1", False),
        ("def show():\n    print(1)", False),
        ("", False),
    ],
)
def test_which_cells_must_show_something(lesson, source, is_certain):
    change = {"source": source, "outputs": []}
    found = problems_of(lesson, lambda cells: cells[1].update(change))
    assert found == (["cell 2: its output is missing"] if is_certain else [])


def test_reordered(lesson):  # SPEC G2
    def swap(cells):
        cells[1], cells[2] = cells[2], cells[1]

    assert problems_of(lesson, swap) == [
        "cell 2: execution count 2 instead of 1",
        "cell 3: execution count 1 instead of 2",
    ]


def test_stored_error(lesson):
    assert problems_of(lesson, lambda cells: cells[4]["metadata"].clear()) == [
        "cell 5: a stored error, ZeroDivisionError"
    ]


def test_stderr(lesson):
    warning = {"output_type": "stream", "name": "stderr", "text": ["UserWarning"]}
    assert problems_of(lesson, lambda cells: cells[1]["outputs"].append(warning)) == [
        "cell 2: output on stderr"
    ]


def test_large_outputs(lesson):
    def printed(n_bytes):
        return {"output_type": "stream", "name": "stdout", "text": ["x" * n_bytes]}

    assert problems_of(lesson, lambda cells: cells[1]["outputs"].append(printed(310_000))) == [
        "cell 2: 310 kB of output, over 300 kB"
    ]


def test_large_notebook(lesson):
    text = "x" * 1_000_000  # and 2 kB for the rest
    assert problems_of(lesson, lambda cells: cells[3].update(source=text)) == [
        "the whole notebook: 1002 kB, over 1000 kB"
    ]


@pytest.mark.parametrize("metadata", [{}, {"mystnb": {"image": {"alt": "A line."}}}])
def test_figure_without_description(lesson, metadata):  # SPEC G11
    found = problems_of(lesson, lambda cells: cells[2].update(metadata=metadata))
    assert found == [f"cell 3: a figure with alt text {'A line.' if metadata else ''!r}"]


def test_a_title_that_breaks_its_box(lesson):  # SPEC G11
    box = "```{admonition} What is `x`?\n:class: quiz\nA number.\n```\nText with `code`."
    found = problems_of(lesson, lambda cells: cells[3].update(source=box))
    assert found == ["cell 4: no box: ```{admonition} What is `x`?"]
    whole = box.replace("`x`", "x")
    assert not problems_of(lesson, lambda cells: cells[3].update(source=whole))


@pytest.mark.parametrize(
    "image",
    [
        "![](line.png)",
        "Text ![](line.png) and text",
        '<img src="line.png">',
        '<img src="line.png" alt="">',
        "```{figure} line.png\n:name: line\n\nA caption, which is no alt text at all.\n```",
        "```{image} line.png\n```",
        ":::{figure} line.png\n:::",
    ],
)
def test_image_without_description(lesson, image):  # SPEC G11
    found = problems_of(lesson, lambda cells: cells[3].update(source=image))
    assert found == ["cell 4: an image with alt text ''"]


@pytest.mark.parametrize(
    "image",
    [
        "![A line that rises from left to right.](line.png)",
        "<img\n  alt='A line that rises from left to right.' src='line.png'>",
        "```{figure} line.png\n:name: line\n:alt: A line that rises from left to right.\n\nA.\n```",
    ],
)
def test_image_with_description(lesson, image):
    assert problems_of(lesson, lambda cells: cells[3].update(source=image)) == []


@pytest.mark.parametrize("title", ["# 11 · A lesson", "# A lesson", "# 1 ·", "Text"])
def test_a_title_without_the_number_of_the_file(lesson, title):
    def change(cells):
        cells[0]["source"][0] = f"{title}\n"

    assert problems_of(lesson, change) == [f"cell 1: the title is {title!r}"]


def test_missing_in_the_table_of_contents(lesson):
    toc = lesson.parents[1] / "_toc.yml"
    toc.write_text(toc.read_text().replace("01_small", "02_other"))
    assert problems_of(lesson) == ["the whole notebook: _toc.yml doesn't name it"]
    toc.unlink()
    assert problems_of(lesson) == ["the whole notebook: _toc.yml doesn't name it"]


def test_exercise_without_solution(lesson):
    assert problems_of(lesson, lambda cells: cells[6]["metadata"].clear()) == [
        "cell 6: an exercise without a solution"
    ]


def test_two_exercises_with_one_solution(lesson):
    exercise = {"metadata": {"tags": ["exercise"]}}
    assert problems_of(lesson, lambda cells: cells[3].update(exercise)) == [
        "cell 4: an exercise without a solution"
    ]


def test_not_the_notebook_format(lesson):
    found = problems_of(lesson, lambda cells: cells[1].pop("outputs"))
    assert len(found) == 1
    assert "not the notebook format" in found[0]
    lesson.write_text("{}")
    with pytest.raises(ValueError, match=r"01_small\.ipynb: not a notebook of format 4"):
        problems_of(lesson)


def test_two_cells_with_one_id(lesson):
    assert problems_of(lesson, lambda cells: cells[4].update(id="cell-2")) == [
        "cell 5: the id 'cell-2' of an earlier cell"
    ]
