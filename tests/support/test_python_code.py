"""Whether samples are Python: what parses, what is cut in two, and what is a mistake."""

import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.python_code import (
    drop_unfinished,
    is_python,
    is_unfinished,
    parse_rate,
)


@pytest.mark.parametrize(
    "source",
    [
        *("", "x = 1", "def f():\n    return 1\n", "x = '\\d'", "# a comment", "é = 1"),
        *("match x:\n    case 1: pass", "async def f(): await g()"),
    ],
)
def test_python_is_python(source):  # SPEC E5
    assert is_python(source)


@pytest.mark.parametrize(
    "source",
    [
        *("x = ", "def f(:", "  x = 1\ny = 2\n y", "print 'x'", "'", "x\0", "\ud800", "§"),
        *("(" * 100_000, "-" * 100_000 + "1", "[" * 150 + "]" * 150 + ")", "if x:\n\ty\n        z"),
    ],
)
def test_what_is_not_python_is_not(source):  # SPEC E5
    assert not is_python(source)


def test_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_python("open('ran', 'w')")
    assert not (tmp_path / "ran").exists()


def test_the_share_that_parses():  # SPEC E5
    assert parse_rate(["x = 1", "x = ", "y", "("]) == 0.5


def test_a_share_of_nothing_is_refused():  # SPEC E5 S9
    with pytest.raises(LessonsError, match=r"^no samples to judge\. Give at least one"):
        parse_rate([])


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("x = 1\ny = (2", "x = 1\n"),
        ("import a\n\n\ndef f(x):\n    if x:\n        ret", "import a\n\n\n"),
        ("x = 1", ""),
        ("", ""),
        ("    indented", ""),
        ("x = 1\n", "x = 1\n"),
        ("import a\n# a comm", "import a\n"),
        ("x = 1\ny = [\n    2,\n]", "x = 1\n"),  # a bracket in the first column
        ("x = 1\ny = [\n    2,\n]\n", "x = 1\ny = [\n    2,\n]\n"),
        ("y = 1\ntry:\n    x = 1\nexcept Value", "y = 1\n"),
        ("y = 1\ntry:\n    x = 1\nfinally:\n    x = (", "y = 1\n"),
        ("if x:\n    y = 1\nelif", "if x:\n    y = 1\n"),
        ("if x:\n    y = 1\nelse:\n    z = 2\n    z =", "if x:\n    y = 1\nelse:\n    z = 2\n"),
        ("x = 1\n@cache\ndef f(", "x = 1\n"),
        ("class A:\n    x = 1\n\n    @property\n    def f(", "class A:\n    x = 1\n\n"),
        ('x = 1\ny = """\nusage:\nls', "x = 1\n"),  # text in the first column
        ("x = 1 + \\\n    2", ""),
        ("def f():\n    return 1\n    retu", "def f():\n    return 1\n"),
    ],
)
def test_what_is_cut_in_two_is_dropped(source, kept):  # SPEC E5
    assert drop_unfinished(source) == kept
    assert is_python(kept)


@pytest.mark.parametrize(
    "wrong",
    ["x = \n", "print 'x'\n", "f(\n\ndef g():\n    pass\n", "x = 'y\n", "def f():\nx = 1\n"],
)
def test_a_mistake_is_not_dropped(wrong):  # SPEC E5
    """However much stands after it: else every text would be cut back until it is Python."""
    for after in ("", "y = 1\n", "y = 1\n\n\ndef g():\n    return 1\n", "@cache\n"):
        kept = drop_unfinished(f"import a\n{wrong}{after}y = (")
        assert kept.startswith(f"import a\n{wrong}")
        assert not is_python(kept)


@given(n_characters=st.integers(0, len(inspect.getsource(inspect))))
@settings(max_examples=40, deadline=None)
def test_python_is_python_wherever_it_is_cut(n_characters):  # SPEC E5
    """3,000 lines of Python's library; what is dropped is not much."""
    source = inspect.getsource(inspect)[:n_characters]
    kept = drop_unfinished(source)
    assert source.startswith(kept)
    assert is_python(kept)


@pytest.mark.parametrize("source", ["(" * 100_000, "-" * 100_000 + "1", "\ud800", "x\0", "'\\d'"])
def test_what_no_parser_likes_is_not_unfinished(source):
    assert not is_unfinished(f"{source}\n")
