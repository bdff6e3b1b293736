"""What others run and read without us: the workflow, and how to cite the book."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text("utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def commands(job):
    return [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]


def test_the_workflow_tests_as_the_readme_says():  # SPEC E12
    assert commands("test") == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    page = (ROOT / "book" / "how_to_read.md").read_text("utf-8")
    without_make = re.search(r"```bash\npython -m venv .*?```", page, re.DOTALL)[0]
    pip = [line for line in without_make.splitlines() if line.startswith("pip install")]
    assert [line for line in commands("without-make") if line.startswith("pip")] == pip
    folders = [word for word in commands("without-make")[-1].split() if word.startswith("tests/")]
    assert folders
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_only_what_was_tested_is_published():
    publish = WORKFLOW["jobs"]["publish"]
    assert publish["needs"] == "test"
    assert publish["if"] == "github.ref == 'refs/heads/main'"
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_the_versions_of_python_are_those_that_the_package_allows():
    versions = WORKFLOW["jobs"]["without-make"]["strategy"]["matrix"]["python"]
    lowest = tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
    assert min(tuple(map(int, version.split("."))) for version in versions) == lowest
    assert WORKFLOW["jobs"]["test"]["container"].startswith(f"python:{versions[0]}-")


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["title"].startswith("Transformer Lessons")
