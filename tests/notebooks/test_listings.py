"""The package is the book: the real one, and small ones that the check must turn down.

# SPEC G1
"""

import pytest
from listings import check_listings, main, write_listings
from nbformat.v4 import new_code_cell, new_output
from notebook_files import ROOT, read_notebook
from package_source import TAUGHT_ROOMS

ATTENTION = '''"""Attention. Lesson 1."""

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


use("transformer_lessons.model.attention", "visible")'''

WINDOW_CLASS = """WINDOW = 16  # tokens


# A window is all
# that is seen.
@dataclass(frozen=True)
class Window:
    size: int = WINDOW


use("transformer_lessons.model.attention", "WINDOW", "Window")"""


def listing(*targets: str, source: str = ""):
    return new_code_cell(source, metadata={"tags": [f"listing:{target}" for target in targets]})


@pytest.fixture
def repository(tmp_path, write_notebook):
    """The root of a small repository that passes, its listings written."""
    attention = tmp_path / "transformer_lessons" / "model" / "attention.py"
    attention.parent.mkdir(parents=True)
    attention.write_text(ATTENTION)
    (attention.parents[1] / "grader.py").write_text("def check(answer):\n    return answer\n")
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


def test_this_repository_is_one_book():  # SPEC G1
    problems = [str(problem) for problem in check_listings(ROOT)]
    assert not problems, "\n" + "\n".join(problems)


def test_small_repository_passes(problems):
    assert problems() == []


# --- writing ---------------------------------------------------------------------------------


def test_listing_is_the_exact_text_and_ends_with_use(repository):  # SPEC G1
    _, visible, window = read_notebook(repository / "notebooks" / "01_small.ipynb").cells
    assert visible.source == VISIBLE
    assert window.source == WINDOW_CLASS


def test_long_calls_are_wrapped_and_every_module_has_its_own(repository, write_notebook):
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
            '\n\n\nuse("transformer_lessons.model.attention", "_unused")\n'
            "use(\n"
            '    "transformer_lessons.text",\n    "first_of_several_functions",\n'
            '    "another_function",\n    "ThirdThing",\n    "_fourth_and_last",\n)'
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
        ('\\"Window\\")', '\\"Windows\\")'),
    ],
)
def test_one_token_of_a_listing_changes(repository, problems, old, new):
    edit(repository / "notebooks" / "01_small.ipynb", old, new)
    assert len(problems()) == 1
    assert "cell 3" in problems()[0]


def test_a_definition_is_listed_twice(repository, problems, write_notebook):
    again = [listing("model.attention.visible", source=VISIBLE)]
    write_notebook(repository / "notebooks" / "01_small_again.ipynb", again)
    assert problems() == [
        "notebooks/01_small_again.ipynb, cell 1: model.attention.visible is listed 2 times, the "
        "first time in notebooks/01_small.ipynb, cell 2. Keep one: a definition has one home in "
        "the book."
    ]


MORE = "def forgotten():\n    pass\n\n\ndef _private():\n    pass\n\n\nMORE = 1\n"


@pytest.mark.parametrize("room", TAUGHT_ROOMS)
def test_a_public_definition_of_a_taught_room_is_listed_nowhere(repository, problems, room):
    module = repository / "transformer_lessons" / room / "more.py"
    module.parent.mkdir(exist_ok=True)
    module.write_text(MORE)
    assert problems() == [
        f"transformer_lessons, {room}.more.forgotten: a public definition of a taught room, listed "
        f"nowhere. Tag a cell `listing:{room}.more.forgotten`, call it _forgotten if it isn't "
        "worth showing, or move it to support or cli."
    ]


@pytest.mark.parametrize("module", ["support/more", "cli/more", "exercises/more", "config"])
def test_elsewhere_a_definition_may_be_listed_once(repository, problems, write_notebook, module):
    path = repository / "transformer_lessons" / f"{module}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(MORE)
    assert problems() == []
    target = f"{module.replace('/', '.')}.forgotten"
    notebook = repository / "notebooks" / "02_more.ipynb"
    for n_times in (1, 2):
        write_notebook(notebook, [listing(target) for _ in range(n_times)])
        write_listings(repository, [notebook])
        assert len(problems()) == n_times - 1


def test_a_private_definition_is_listed(repository, problems, write_notebook):
    path = repository / "notebooks" / "01_more.ipynb"
    write_notebook(path, [listing("model.attention._unused")])
    write_listings(repository, [path])
    assert problems() == [
        "notebooks/01_more.ipynb, cell 1: model.attention._unused is private, and is listed. "
        "Remove the listing, or the underscore: what readers are shown is public."
    ]


@pytest.mark.parametrize(
    ("docstring", "said"),
    [
        ("Attention. Lesson 1.", ""),
        ("Attention. Lessons 1 and 10.", ""),
        ("Attention, from lesson 1 on.", ""),
        ("Attention. Lesson 11.", "lesson 1"),
        ("Attention in 1 way.", "lesson 1"),
    ],
)
def test_a_module_names_its_lessons(repository, problems, docstring, said):
    path = repository / "transformer_lessons" / "model" / "attention.py"
    edit(path, "Attention. Lesson 1.", docstring)
    assert len(problems()) == bool(said)
    assert all(f"doesn't name {said}, where it is listed" in problem for problem in problems())


def test_lessons_that_list_a_module_between_them(repository, problems, write_notebook):
    path = repository / "transformer_lessons" / "model" / "attention.py"
    path.write_text(path.read_text() + "\n\ndef more():\n    pass\n")
    for number in (12, 20):
        path = repository / "notebooks" / f"{number}_more.ipynb"
        name = {12: "more", 20: "WINDOW"}[number]
        write_notebook(path, [listing(f"model.attention.{name}")])
        write_listings(repository, [path])
    named = [problem for problem in problems() if "docstring" in problem]
    assert named == [
        "transformer_lessons, model.attention: its docstring doesn't name lesson 12 and lesson "
        '20, where it is listed. Write "Lesson 7." or "Lessons 7 and 8.", with its numbers.'
    ]


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


def test_a_book_without_notebooks(repository, problems):
    (repository / "notebooks" / "01_small.ipynb").unlink()
    assert problems() == ["notebooks: no notebooks. The book is made of them."]


def test_the_command_prints_every_problem_and_exits_with_1(repository, capsys):
    assert main(["--check"], repository) == 0
    edit(repository / "transformer_lessons" / "model" / "attention.py", "key <= query", "True")
    (repository / "transformer_lessons" / "model" / "more.py").write_text(MORE)
    assert main(["--check"], repository) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2
