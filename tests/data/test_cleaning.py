"""Cleaning: what each step does, and that it does nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.data.cleaning import STEPS, clean, normalize_unicode

BY_NAME = {step.__name__: step for step in STEPS}

# step -> (before, after), worked out by hand
EXAMPLES = {
    "normalize_line_ends": [
        ("a\r\nb\rc\n\rd", "a\nb\nc\n\nd"),
        ("a\x85b\u2028c\u2029d", "a\nb\nc\nd"),
        ("\r\r\n", "\n\n"),
    ],
    "drop_control_characters": [
        ("\ufeffa\x07b\x0cc\x1b[0m\x7f\x9f", "abc[0m"),
        ("\ufeff", ""),
        ("a\0b\0", "ab"),
    ],
    "normalize_unicode": [
        ("e\u0301\u212b", "é\u00c5"),
        ("a" + "\u0301" * 50, "á" + "\u0301" * 29),
    ],
    "drop_section_markers": [
        ("Title\n=====\nText\n", "Title\nText\n"),
        ("a\n  ----  \nb\n****", "a\nb\n"),
        ("+----+----+\n|    |    |\n| a  | b  |\n", "|    |    |\n| a  | b  |\n"),
        ("####\n~~~~\n- - - -\n_____", ""),
    ],
    "collapse_white_space": [
        ("a  \t\nb\u3000\n", "a\nb"),
        ("a\n\n\n\nb\n\n\nc", "a\n\n\nb\n\n\nc"),
        ("\n\n    if x:\n\n        y  =  1\n \n\n\n\n\n", "    if x:\n\n        y  =  1"),
    ],
}
UNTOUCHED = {
    "normalize_line_ends": "a\nb\tc \0\x0c",
    "drop_control_characters": "a\tb\nc\rd \x85\u200d\u00ad",
    "normalize_unicode": "ﬁ ² é \u200b Ω\u0302\u0308",
    "drop_section_markers": "---\n--- a\nx ====\n#### Title\n* * *\n- [ ]\n",
    "collapse_white_space": "    a  b\n\n\n\tc",
}


def test_every_step_has_examples():
    assert set(EXAMPLES) == set(UNTOUCHED) == set(BY_NAME)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_step_on_examples_by_hand(name):  # SPEC S1
    for before, after in EXAMPLES[name]:
        assert BY_NAME[name](before) == after
        assert name in clean(before)[1]
    assert BY_NAME[name](UNTOUCHED[name]) == UNTOUCHED[name]


@pytest.mark.parametrize("name", BY_NAME)
def test_no_other_step_does_its_work(name):  # SPEC S1
    before, _ = EXAMPLES[name][0]
    text = before
    for step in STEPS:
        text = step(text) if step is not BY_NAME[name] else text
    assert text != clean(before)[0]


def test_the_steps_together_name_those_that_changed_something():
    text = "Title\r\n=====\r\n\r\ncafe\u0301  \r\n"
    steps = ["normalize_line_ends", "normalize_unicode", "drop_section_markers"]
    assert clean(text) == ("Title\n\ncafé", [*steps, "collapse_white_space"])


HARD = st.text(
    st.one_of(
        st.sampled_from("\0\r\n\t \x85\u2028\x0b\x0c\x1c\ufeff\u3000-=*#_~+|ae\u0301\u0323"),
        st.characters(exclude_categories=["Cs"]),
    )
)


@given(HARD)
def test_a_clean_text_stays_as_it_is(text):
    once, _ = clean(text)
    assert clean(once) == (once, [])


@given(HARD)
def test_cleaning_only_removes_when_it_does_not_normalize(text):
    """What is left are characters of the text, in order."""
    cleaned, rest = text, iter(text)
    for name in ("drop_control_characters", "drop_section_markers", "collapse_white_space"):
        cleaned = BY_NAME[name](cleaned)
    assert all(character in rest for character in cleaned)


def test_endless_marks_end():
    """Ordering n combining marks takes n² steps: this would take hours."""
    zalgo = "a" + "\u0301\u0323" * 500_000
    assert len(normalize_unicode(zalgo)) == 30


@pytest.mark.parametrize("unit", [" ", "\n", "\t", "-", "- ", "-\n", "\r", " \n", "\ufeff", "\0"])
def test_long_runs_of_one_thing_are_cleaned(unit):
    text = "a" + unit * 300_000 + "b"
    cleaned, _ = clean(text)
    assert cleaned[0] + cleaned[-1] == "ab"
