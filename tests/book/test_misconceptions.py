"""The page of misconceptions is made from the graders, and leads to their exercises."""

import html
import re
from pathlib import Path

from misconceptions import PAGE, as_markdown, misconceptions_page

from transformer_lessons.exercises.exercise import lesson_exercises, lessons

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "_build" / "html" / "book" / "misconceptions.html"
EXERCISES = [exercise for lesson in lessons() for exercise in lesson_exercises(lesson)]


def test_the_page_is_that_of_the_graders():  # SPEC E13
    assert (ROOT / PAGE).read_text("utf-8") == misconceptions_page(), "run tools/publish.py"


def test_readers_see_every_message_and_a_link_to_every_exercise():  # SPEC E13
    text = re.sub(r"<[^>]+>", "", BUILT.read_text("utf-8"))
    shown = plain(html.unescape(text))
    messages = [wrong.message for exercise in EXERCISES for wrong in exercise.wrong_answers]
    assert [message for message in messages if plain(message) not in shown] == []
    links = re.findall(r"notebooks/(\d\d)_\w+\.html#exercise-(\d+)-\d+", BUILT.read_text("utf-8"))
    assert len(links) == len(EXERCISES)
    assert all(int(file) == int(lesson) for file, lesson in links)


def plain(text):
    """Without code's marks, and without what makes quotation marks and dashes fine."""
    return re.sub(r"\s+", " ", re.sub("[`‘’“”'\"–—-]|\\.\\.\\.|…", "", text))


def test_characters_that_markdown_reads_are_kept():
    assert as_markdown("*a* [b] x_1 $c$ 1 < 2") == r"\*a\* \[b\] `x_1` \$c\$ 1 \< 2"
