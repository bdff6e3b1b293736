"""The text that every reader already has."""

import sys

import pytest

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation


def test_it_is_large_and_the_same_every_time():
    text = python_documentation()
    assert len(text) > 300_000
    assert python_documentation() == text


def test_it_holds_every_topic_in_order():
    from pydoc_data.topics import topics

    expected = ""
    for name in sorted(topics):
        expected += ("\n\n" if expected else "") + topics[name].strip()
    assert python_documentation() == expected


def test_a_python_without_it_is_told_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(LessonsError, match=r"no pydoc_data\.topics\. Install Python"):
        python_documentation()
