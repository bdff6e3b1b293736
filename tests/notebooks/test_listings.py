"""The package is the book: the real one, and small ones that the check must turn down.

# SPEC G1
"""

import pytest
from listings import check_listings, main, write_listings
from nbformat.v4 import new_code_cell, new_output
from notebook_files import ROOT, read_notebook

ATTENTION = '''"""Attention."""

from dataclasses import dataclass

WINDOW = 16  # tokens


# A window is all
# that is seen.
@dataclass(frozen=True)
class Window:
    size: int = WINDOW


def visible(query: int, key: int) -> bool:
    """May the query look at the key?"""
    return key <= query


def _unused() -> None:
    pass
'''

VISIBLE = '''def visible(query: int, key: int) -> bool:
    """May the query look at the key?"""
    return key <= query


from transformer_lessons.model.attention import visible'''

WINDOW_CLASS = """WINDOW = 16  # tokens


# A window is all
# that is seen.
@dataclass(frozen=True)
class Window:
    size: int = WINDOW


from transformer_lessons.model.attention import WINDOW, Window"""


def listing(*targets: str, source: str = ""):
    return new_code_cell(source, metadata={"tags": [f"listing:{target}" for target in targets]})


@pytest.fixture
def repository(tmp_path, write_notebook):
    """The root of a small repository that passes, its listings written."""
    attention = tmp_path / "transformer_lessons" / "model" / "attention.py"
    attention.parent.mkdir(parents=True)
    attention.write_text(ATTENTION)
    (attention.parents[1] / "grader.py").write_text("def check(answer):\n    return answer\n")
    (tmp_path / "tools").mkdir()
    allowed = '[modules]\n"grader" = "Lessons call the grader."\n'
    (tmp_path / "tools" / "not_listed.toml").write_text(allowed)
    cells = [
        "def sketch(query, key):\n    return key <= query",
        listing("model.attention.visible"),
        listing("model.attention.WINDOW", "model.attention.Window"),
    ]
    path = write_notebook(tmp_path / "notebooks" / "01_small.ipynb", cells)
    write_listings(tmp_path, [path])
    return tmp_path


@pytest.fixture
def problems(repository):
    """problems(): what the check says of the repository, one line a problem."""
    return lambda: [str(problem) for problem in check_listings(repository)]


def edit(path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def allow(repository, text: str) -> None:
    path = repository / "tools" / "not_listed.toml"
    path.write_text(path.read_text() + text)


def test_this_repository_is_one_book():  # SPEC G1
    problems = [str(problem) for problem in check_listings(ROOT)]
    assert not problems, "\n" + "\n".join(problems)


def test_small_repository_passes(problems):
    assert problems() == []


# --- writing ---------------------------------------------------------------------------------


def test_listing_is_the_exact_text_and_imports_the_real_one(repository):  # SPEC G1
    _, visible, window = read_notebook(repository / "notebooks" / "01_small.ipynb").cells
    assert visible.source == VISIBLE
    assert window.source == WINDOW_CLASS


def test_long_imports_are_wrapped_and_every_module_has_its_own(repository, write_notebook):
    module = repository / "transformer_lessons" / "text.py"
    names = ["first_of_several_functions", "another_function", "ThirdThing", "_fourth_and_last"]
    module.write_text("\n\n\n".join(f"def {name}():\n    pass" for name in names) + "\n")
    path = repository / "notebooks" / "02_long.ipynb"
    write_notebook(path, [listing(*(f"text.{name}" for name in names), "model.attention._unused")])
    write_listings(repository, [path])
    assert (
        read_notebook(path)
        .cells[0]
        .source.endswith(
            "\n\n\nfrom transformer_lessons.model.attention import _unused\n"
            "from transformer_lessons.text import (\n"
            "    ThirdThing,\n    _fourth_and_last,\n    another_function,\n"
            "    first_of_several_functions,\n)"
        )
    )


def test_writing_keeps_outputs_ids_and_tags_and_untouched_files(repository, write_notebook):
    path = repository / "notebooks" / "02_more.ipynb"
    cell = listing("grader.check", source="old")
    cell.outputs, cell.execution_count = [new_output("stream", text="kept\n")], 7
    write_notebook(path, [cell, "x = 1"])
    assert write_listings(repository, [path]) == [path]
    new = read_notebook(path).cells[0]
    assert new.outputs[0].text == "kept\n"
    assert (new.execution_count, new.id) == (7, "cell-1")
    assert new.metadata.tags == ["listing:grader.check"]
    before = path.stat().st_mtime_ns
    assert write_listings(repository, [path]) == []
    assert path.stat().st_mtime_ns == before


def test_a_cell_with_an_unknown_target_is_left_as_it_is(repository, write_notebook):
    path = repository / "notebooks" / "02_more.ipynb"
    write_notebook(path, [listing("grader.chekc", source="old")])
    assert write_listings(repository, [path]) == []
    assert read_notebook(path).cells[0].source == "old"


# --- the check turns red ---------------------------------------------------------------------


def test_one_token_of_the_package_changes(repository, problems):  # SPEC G1
    attention = repository / "transformer_lessons" / "model" / "attention.py"
    edit(attention, "return key <= query", "return key < query")
    assert problems() == [
        "notebooks/01_small.ipynb, cell 2, listing model.attention.visible: "
        "the text is not the package's: line 3 is '    return key <= query', "
        "in the package '    return key < query'. Run: python tools/listings.py --write"
    ]
    assert main(["--write"], repository) == 0
    assert problems() == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("that is seen.", "that is shown."), ("frozen=True", "frozen=False"), ("# tokens", "# bytes")],
)
def test_comments_and_decorators_belong_to_the_text(repository, problems, old, new):
    edit(repository / "transformer_lessons" / "model" / "attention.py", old, new)
    assert len(problems()) == 1
    assert "listing model.attention.WINDOW: the text is not the package's" in problems()[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size: int = WINDOW", "size: int = 16"),
        ("size: int = WINDOW", "size: int  = WINDOW"),
        ("from transformer_lessons.model.attention import WINDOW, Window", ""),
    ],
)
def test_one_token_of_a_listing_changes(repository, problems, old, new):
    edit(repository / "notebooks" / "01_small.ipynb", old, new)
    assert len(problems()) == 1
    assert "cell 3" in problems()[0]


def test_a_definition_is_listed_twice(repository, problems, write_notebook):
    again = [listing("model.attention.visible", source=VISIBLE)]
    write_notebook(repository / "notebooks" / "02_again.ipynb", again)
    assert problems() == [
        "notebooks/02_again.ipynb, cell 1: model.attention.visible is listed 2 times, the first "
        "time in notebooks/01_small.ipynb, cell 2. Keep one: a definition has one home in the book."
    ]


def test_a_definition_is_listed_nowhere(repository, problems):
    with open(repository / "transformer_lessons" / "model" / "attention.py", "a") as file:
        file.write("\n\ndef forgotten():\n    pass\n\n\ndef _private():\n    pass\n\n\nMORE = 1\n")
    assert problems() == [
        "transformer_lessons, model.attention.forgotten: a public definition that no notebook "
        "lists. Tag a cell `listing:model.attention.forgotten`, or say why not in "
        "tools/not_listed.toml."
    ]
    allow(repository, '[definitions]\n"model.attention.forgotten" = "Lesson 07 will list it."\n')
    assert problems() == []


def test_a_target_does_not_exist(repository, problems, write_notebook):
    path = repository / "notebooks" / "02_more.ipynb"
    write_notebook(path, [listing("model.attention.visibel")])
    assert problems() == [
        "notebooks/02_more.ipynb, cell 1, listing model.attention.visibel: no such definition in "
        "transformer_lessons. Is model.attention.visible meant?"
    ]


@pytest.mark.parametrize(
    "source",
    [
        "def visible(): pass",
        "class visible: pass",
        "async def visible(): pass",
        "if True:\n    def visible(): pass",
        "try:\n    x = 1\nexcept ValueError:\n    def visible(): pass",
        "%matplotlib inline\ndef visible(): pass",
        "with open('x') as f:\n    for y in f:\n        class visible: pass",
    ],
)
def test_an_untagged_cell_defines_a_public_name(repository, problems, write_notebook, source):
    write_notebook(repository / "notebooks" / "02_more.ipynb", [source])
    assert problems() == [
        "notebooks/02_more.ipynb, cell 1: defines 'visible', the name of "
        "transformer_lessons.model.attention.visible. Give the sketch another name, or tag the "
        "cell `listing:model.attention.visible`."
    ]


def test_other_names_and_methods_are_free(repository, problems, write_notebook):
    cells = [
        "class Sketch:\n    def visible(self): pass",
        "def outer():\n    def visible(): pass",
        "def _unused(): pass",
        "this is not Python",
        "",
    ]
    write_notebook(repository / "notebooks" / "02_more.ipynb", cells)
    assert problems() == []


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('[definitions]\n"model.gone" = "It once was here."\n', "it excuses nothing that exists"),
        ('[definitions]\n"grader.check" = "Said already above."\n', "it excuses nothing that"),
        ('"model.gone" = "It once was here."\n', "it excuses nothing that exists"),
        (
            '[definitions]\n"model.attention.visible" = "Not taught so far."\n',
            "model.attention.visible is listed in notebooks/01_small.ipynb, cell 2",
        ),
        ('"model" = "Not taught so far."\n', "model.attention.visible is listed in"),
        ('[long]\n"grader.check" = "It was long once."\n', "no such thing is over its limit"),
    ],
)
def test_a_stale_exception(repository, problems, entry, said):
    allow(repository, entry)
    assert len(problems()) == 1
    assert problems()[0].startswith("tools/not_listed.toml, [")
    assert f"stale: {said}" in problems()[0]


@pytest.mark.parametrize("text", ['"model" = "later"\n', '[moduls]\n"model" = "Not taught yet."\n'])
def test_an_exception_needs_a_reason_and_a_known_table(repository, problems, text):
    allow(repository, text)
    with pytest.raises(ValueError, match=r"reason in words|unknown table \[moduls\]"):
        problems()


def long_function(n_lines: int) -> str:
    return "def check():\n" + "    pass\n" * (n_lines - 1)


@pytest.mark.parametrize(("n_lines", "n_problems"), [(45, 0), (46, 1)])
def test_a_definition_has_at_most_45_lines(repository, problems, n_lines, n_problems):
    (repository / "transformer_lessons" / "grader.py").write_text(long_function(n_lines))
    said = "transformer_lessons, grader.check: 46 lines, over the limit of 45"
    assert [problem.split(". ")[0] for problem in problems()] == [said] * n_problems


@pytest.mark.parametrize(("n_lines", "n_problems"), [(250, 0), (251, 1)])
def test_a_module_has_at_most_250_lines(repository, problems, n_lines, n_problems):
    (repository / "transformer_lessons" / "grader.py").write_text("# line\n" * n_lines)
    edit(repository / "tools" / "not_listed.toml", '"grader" = "Lessons call the grader."', "")
    said = "transformer_lessons, grader: 251 lines, over the limit of 250"
    assert [problem.split(". ")[0] for problem in problems()] == [said] * n_problems


def test_a_long_definition_can_be_excused(repository, problems):
    (repository / "transformer_lessons" / "grader.py").write_text(long_function(46))
    allow(repository, '[long]\n"grader.check" = "One case after another."\n')
    assert problems() == []


def test_a_book_without_notebooks(repository, problems):
    (repository / "notebooks" / "01_small.ipynb").unlink()
    assert problems() == ["notebooks: no notebooks. The book is made of them."]


def test_the_command_prints_every_problem_and_exits_with_1(repository, capsys):
    assert main(["--check"], repository) == 0
    edit(repository / "transformer_lessons" / "model" / "attention.py", "key <= query", "True")
    allow(repository, '[definitions]\n"model.gone" = "It once was here."\n')
    assert main(["--check"], repository) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2
