"""The one exception of the package: what it says, and that it survives a change of process."""

import pickle

import pytest

from transformer_lessons.errors import LessonsError


@pytest.mark.parametrize(
    ("where", "remedy", "message"),
    [
        ("", "", "not base64"),
        ("pairs.tsv, line 3", "", "not base64 (pairs.tsv, line 3)"),
        ("", "Encode it.", "not base64. Encode it."),
        ("pairs.tsv, line 3", "Encode it.", "not base64 (pairs.tsv, line 3). Encode it."),
    ],
)
def test_the_message_says_what_where_and_the_remedy(where, remedy, message):
    assert str(LessonsError("not base64", where=where, remedy=remedy)) == message


def test_it_is_a_value_error():
    assert issubclass(LessonsError, ValueError)


def test_pickling_keeps_every_part():
    error = LessonsError("what", where="here", remedy="Do this.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is LessonsError
    assert (copy.what, copy.where, copy.remedy) == ("what", "here", "Do this.")
    assert str(copy) == str(error) == "what (here). Do this."
