"""What others run and read without us: the workflow, Binder, forms for issues, the citation."""

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


EXPRESSION = re.compile(r"\$\{\{ ([\w.-]+) \}\}")


def test_the_workflow_is_one_that_github_can_run():  # SPEC G14
    assert set(WORKFLOW[True]) == {"push", "pull_request"}  # YAML 1.1 reads `on` as true
    for name, job in WORKFLOW["jobs"].items():
        assert {"runs-on", "steps"} <= set(job), name
        assert job.get("needs", name) in WORKFLOW["jobs"]
        ids = {step["id"] for step in job["steps"] if "id" in step}
        known = {f"matrix.{axis}" for axis in job.get("strategy", {}).get("matrix", {})}
        known |= {f"steps.{step}.outputs.page_url" for step in ids}
        known |= {"github.repository_owner", "github.event.repository.name"}
        for step in job["steps"]:
            assert len({"uses", "run"} & set(step)) == 1, step
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))
        assert set(EXPRESSION.findall(str(job))) <= known, name
        assert str(job).count("${{") == len(EXPRESSION.findall(str(job)))


def test_every_system_is_tried_with_every_python():  # SPEC G14
    matrix = WORKFLOW["jobs"]["without-make"]["strategy"]["matrix"]
    assert {os.partition("-")[0] for os in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert matrix["python"] == ["3.11", "3.12", "3.13"]  # as text: 3.10 would be 3.1


def test_a_fork_needs_no_change():
    """Nothing says whose repository this is, and nothing is secret."""
    text = (ROOT / ".github" / "workflows" / "book.yml").read_text("utf-8")
    assert "secrets." not in text
    assert "github.com/" not in text
    address = WORKFLOW["jobs"]["test"]["env"]["BOOK_ADDRESS"]  # where a fork's book is published
    assert address.replace(" ", "") == (
        "https://${{github.repository_owner}}.github.io/${{github.event.repository.name}}/"
    )


def test_binder_installs_what_a_machine_without_make_does():  # SPEC G2
    script = ROOT / ".binder" / "postBuild"
    assert script.stat().st_mode & 0o111
    lines = script.read_text("utf-8").splitlines()
    pip = [line for line in commands("without-make") if line.startswith("pip")]
    assert [line for line in lines if line.startswith("pip")] == pip
    version = (ROOT / ".binder" / "runtime.txt").read_text("utf-8").strip().removeprefix("python-")
    assert version in WORKFLOW["jobs"]["without-make"]["strategy"]["matrix"]["python"]


def test_forms_for_issues_ask_for_something_and_explain_it():  # SPEC G14
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 3
    for path in forms:
        form = yaml.safe_load(path.read_text("utf-8"))
        assert {"name", "description", "body"} == set(form), path.name
        ids = [field["id"] for field in form["body"]]
        assert len(set(ids)) == len(ids) >= 2
        for field in form["body"]:
            assert field["type"] in {"input", "textarea"}
            assert field["attributes"]["label"]
        assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_the_list_of_changes_begins_with_this_version():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.findall(r"^## ([\d.]+)", text, re.MULTILINE)[0] == PROJECT["version"]


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["title"].startswith("Transformer Lessons")
