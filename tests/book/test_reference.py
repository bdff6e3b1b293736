"""The reference has every public name of the taught folders, with its docstring and its lesson."""

import re
from pathlib import Path

from book_extension import escape_bars, leave_out_rules
from package_source import read_package
from reference import reference_pages

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html" / "book" / "reference"


def test_the_pages_are_those_that_the_package_and_the_lessons_give():  # SPEC E13
    pages = reference_pages()
    on_disk = {path.relative_to(ROOT) for path in (ROOT / "book" / "reference").iterdir()}
    assert on_disk == set(pages)
    old = [path for path, text in pages.items() if (ROOT / path).read_text("utf-8") != text]
    assert not old, "run tools/publish.py"


def test_every_public_name_is_built_with_its_docstring_and_its_lesson():  # SPEC E13 G1
    found = {}
    for page in HTML.glob("*.html"):
        html = page.read_text("utf-8")
        entries = re.split(r'<dt class="sig[^>]* id="transformer_lessons\.', html)[1:]
        found |= {entry.split('"', 1)[0]: entry for entry in entries}
    public = {name for name, one in read_package(ROOT).items() if one.is_public and one.is_taught}
    assert public <= set(found)
    assert not [name for name in public if "<dd><p>" not in found[name]], "no docstring"
    attend = found["model.attention.attend"]
    assert "Shown in" in attend
    assert "notebooks/07_attention.html" in attend
    assert "mask" in attend


def test_a_bar_is_a_bar_but_not_in_an_example():
    lines = ["The share |A ∩ B|.", "", ">>> 6 | 1", "7"]
    escape_bars(None, "", "", None, None, lines)
    assert lines == ["The share \\|A ∩ B\\|.", "", ">>> 6 | 1", "7"]


def test_a_fields_rule_is_left_out_of_the_signature():
    signature = "(steps: Annotated[int, ~a.Allowed(words=at least 1, is_ok=~a.<lambda>)] = 400)"
    assert leave_out_rules(None, "", "", None, None, signature, "None") == (
        "(steps: int = 400)", "None",
    )  # fmt: skip


def test_a_signature_that_python_cannot_read_is_made_readable():
    for default, shown in {
        "<function stream>": "stream",
        "<factory>": "...",
        "<function Trainer.<lambda>>": "...",
    }.items():
        signature = f"(read: ~a.Message = {default})"
        found, _ = leave_out_rules(None, "", "", None, None, signature, "None")
        assert found == f"(read: ~a.Message = {shown})"


def test_no_signature_shows_the_marks_of_sphinx():
    for page in HTML.glob("*.html"):
        signatures = re.findall(r'<dt class="sig.*?</dt>', page.read_text("utf-8"), re.DOTALL)
        assert not [s for s in signatures if "~" in s or "&lt;" in s], page.name
