"""With an address in `_config.yml` there are buttons, and lessons that install the package."""

import ast
import re
import shutil
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import listings
import pytest
import repository
import yaml
from notebook_files import notebook_paths, numbered_code_cells, parse_cell, read_notebook

ROOT = Path(__file__).resolve().parents[1]
URL = "https://github.com/somebody/transformer_lessons"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def first_cell(root):
    return next(numbered_code_cells(read_notebook(notebook_paths(root)[0])))[1]


@pytest.fixture
def with_address(tmp_path):
    """A small copy of the repository, whose `_config.yml` names an address."""
    shutil.copytree(
        ROOT / "transformer_lessons" / "support", tmp_path / "transformer_lessons" / "support"
    )
    (tmp_path / "notebooks").mkdir()
    shutil.copy(notebook_paths(ROOT)[0], tmp_path / "notebooks")
    config = (ROOT / "_config.yml").read_text("utf-8")
    (tmp_path / "_config.yml").write_text(re.sub(r"(?m)^  url:.*", f"  url: {URL}", config))
    return tmp_path


def test_lessons_install_the_package_from_the_address_and_only_then(with_address):  # SPEC G2
    before = first_cell(with_address)
    assert "pip" not in before.source
    found = [str(p) for p in listings.check_listings(with_address) if "install" in p.what]
    assert len(found) == 1
    listings.main(["--write"], with_address)
    after = first_cell(with_address)
    assert f'"transformer_lessons[lessons] @ git+{URL}"' in after.source
    assert after.source.endswith(before.source)
    assert (after.outputs, after.execution_count) == (before.outputs, before.execution_count)
    assert not [p for p in listings.check_listings(with_address) if "install" in p.what]
    config = with_address / "_config.yml"
    config.write_text(config.read_text().replace(URL, '""'))
    listings.main(["--write"], with_address)
    assert first_cell(with_address) == before


def test_where_the_package_is_the_lines_do_nothing_and_elsewhere_they_install(monkeypatch):
    asked = []
    source = repository.with_install("", URL).replace("%pip", "pip(").replace(f'{URL}"', f'{URL}")')
    source = source.replace("pip( install --quiet ", "pip(")
    exec(source, {"pip": asked.append})
    assert asked == []
    monkeypatch.setitem(sys.modules, "transformer_lessons", None)
    exec(source, {"pip": asked.append})
    assert asked == [f"transformer_lessons[lessons] @ git+{URL}"]
    cell = parse_cell(repository.with_install("x = 1", URL))  # as Jupyter reads it
    assert [type(statement) for statement in cell.body] == [ast.Try, ast.Assign]


def test_what_is_installed_is_all_that_the_lessons_import():
    extras = PROJECT["optional-dependencies"]["lessons"]
    names = {re.match(r"\w+", name)[0] for name in [*PROJECT["dependencies"], *extras]}
    imported = set()
    for path in notebook_paths(ROOT):
        for _, cell in numbered_code_cells(read_notebook(path)):
            for node in ast.walk(parse_cell(cell.source)):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    imported.add(node.module.split(".")[0])
    known = names | set(sys.stdlib_module_names) | {"transformer_lessons", "IPython"}
    assert imported - known == set()


@pytest.mark.parametrize("url", ["", URL])
def test_buttons_are_on_with_an_address_and_off_without(url):  # SPEC G2
    options = {"repository_url": url, "repository_branch": "main"}
    config = SimpleNamespace(html_theme_options=options)
    repository.offer(None, config)
    on = {name for name, value in config.html_theme_options.items() if value is True}
    buttons = {"use_repository_button", "use_edit_page_button", "use_issues_button"}
    assert on == (buttons if url else set())
    assert ("launch_buttons" in config.html_theme_options) == bool(url)


def test_the_address_is_read_where_it_stands(with_address, tmp_path):
    assert repository.repository_url(with_address) == URL
    assert repository.repository_url(tmp_path / "nowhere") == ""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    assert repository.repository_url(ROOT) == (config["repository"]["url"] or "")
