"""The package keeps to its budgets, and small packages that don't are found."""

import pytest
import size
from notebook_files import ROOT


@pytest.fixture
def problems(tmp_path, monkeypatch):
    """problems({"model/a.py": "text", ...}): what is said of a package with these files."""
    monkeypatch.setattr(size, "LONG", {})

    def check(files):
        for name, text in files.items():
            path = tmp_path / "transformer_lessons" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return [str(problem) for problem in size.check_sizes(tmp_path)]

    return check


def function(n_lines: int, indent: str = "") -> str:
    return f"{indent}def f():\n" + f"{indent}    pass\n" * (n_lines - 1)


def test_this_package_keeps_to_its_budgets():
    problems = [str(problem) for problem in size.check_sizes(ROOT)]
    assert not problems, "\n" + "\n".join(problems)


def test_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(size, "LONG", {})
    for name, n_lines in {"model/a": 200, "model/b": 100, "autograd/tape": 201, "cli/a": 7}.items():
        path = tmp_path / "transformer_lessons" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# line\n" * n_lines)
    assert size.main(tmp_path) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["model", "300", "1,180"] in lines
    assert ["autograd", "201", "200", "over"] in lines
    assert ["taught", "501", "8,380"] in lines
    assert ["cli", "7", "3,220"] in lines
    (tmp_path / "transformer_lessons" / "autograd" / "tape.py").write_text("")
    assert size.main(tmp_path) == 0


def test_a_room_over_its_budget(problems):
    files = {f"analysis/part_{n}.py": "# line\n" * 110 for n in range(2)}
    assert problems(files) == []
    files["analysis/one_more.py"] = "# line\n"
    assert problems(files) == [
        "transformer_lessons, analysis: 221 lines, over the budget of 220. When something must go "
        "in, something goes."
    ]


@pytest.mark.parametrize("module", ["model/a.py", "support/a.py", "config.py"])
def test_a_long_function(problems, module):
    assert problems({module: function(45)}) == []
    name = module.removesuffix(".py").replace("/", ".")
    assert problems({module: function(46)}) == [
        f"transformer_lessons, {name}.f: 46 lines, over the limit of 45 for a function. Split it, "
        "or say in LONG of tools/size.py why it must stay whole."
    ]


def test_decorators_count_and_methods_are_functions(problems):
    found = problems({"cli/a.py": "class A:\n    @property\n" + function(45, "    ")})
    assert [problem.split(". ")[0] for problem in found] == [
        "transformer_lessons, cli.a.A.f: 46 lines, over the limit of 45 for a function"
    ]


def test_a_class_may_be_longer(problems):
    methods = function(45, "    ") + function(45, "    ").replace("f()", "g()")
    assert problems({"cli/a.py": "class A:\n" + methods + "    x = 1\n" * 39}) == []
    found = problems({"cli/a.py": "class A:\n" + methods + "    x = 1\n" * 40})
    assert [problem.split(". ")[0] for problem in found] == [
        "transformer_lessons, cli.a.A: 131 lines, over the limit of 130 for a class"
    ]


def test_a_long_module_but_not_of_exercises_and_a_table_as_long_as_a_module(problems):
    text = "TABLE = (\n" + "    1,\n" * 248 + ")\n"
    assert problems({"support/a.py": text, "exercises/lesson_01.py": "# line\n" * 251}) == []
    found = problems({"exercises/grader.py": text + "x = 1\n"})
    assert [problem.split(". ")[0] for problem in found] == [
        "transformer_lessons, exercises.grader: 251 lines, over the limit of 250 for a module"
    ]


def test_an_excuse_must_be_needed(problems, monkeypatch):
    monkeypatch.setattr(size, "LONG", {"cli.a.f": "It is one thought."})
    assert problems({"cli/a.py": function(46)}) == []
    assert problems({"cli/a.py": function(45)}) == [
        "LONG, cli.a.f: it is not over any limit. Remove the entry."
    ]
