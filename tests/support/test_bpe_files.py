"""Tokenizer files: what is saved is loaded, and nothing else is."""

import copy
import json
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.bpe_files import BPEParts, write_bpe
from transformer_lessons.tokenizers import bpe
from transformer_lessons.tokenizers.bpe import BPETokenizer

BYTES = {byte: bytes([byte]) for byte in range(256)}
TEXT = "low lower lowest\n slow é日😀 " * 3
TRAINED = BPETokenizer.train(TEXT, 275, ["<|end|>", "<|end|> of", "é日", "\n\n"])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokenizer ü.json"


@pytest.fixture
def good(path):
    """The contents of a good file, to be damaged."""
    TRAINED.save(path)
    return json.loads(path.read_text(encoding="utf-8"))


def same(first, second):
    names = ("vocab", "merges", "special_tokens", "pattern", "n_vocab")
    return all(getattr(first, name) == getattr(second, name) for name in names)


def load(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return BPETokenizer.load(path)


def refusal(path, document):
    """The error that loading `document` must raise."""
    with pytest.raises(LessonsError) as caught:
        load(path, document)
    return caught.value


@pytest.mark.parametrize("as_text", [True, False])
def test_what_is_saved_is_loaded(path, as_text):  # SPEC A1, A2
    named = str(path) if as_text else path
    TRAINED.save(named)
    again = BPETokenizer.load(named)
    assert same(again, TRAINED)
    text = TEXT + "<|end|> of<|end|>é日"
    assert again.encode(text, "all") == TRAINED.encode(text, "all")
    first = path.read_bytes()
    again.save(path)
    assert path.read_bytes() == first
    assert os.listdir(path.parent) == [path.name]


@given(
    text=st.text(max_size=40),
    special_tokens=st.lists(st.text(min_size=2, max_size=5), max_size=3, unique=True),
    pattern=st.sampled_from(["gpt2", "gpt4"]),
)
def test_any_tokenizer_is_loaded_as_it_was(tmp_path_factory, text, special_tokens, pattern):
    # SPEC A1
    path = tmp_path_factory.mktemp("bpe") / "t.json"
    tokenizer = BPETokenizer.train(text, 300, special_tokens, pattern)
    tokenizer.save(path)
    assert same(BPETokenizer.load(path), tokenizer)
    assert BPETokenizer.load(path).encode_ordinary(text) == tokenizer.encode_ordinary(text)


def test_ids_in_any_order_are_kept(path):  # SPEC A1
    vocab = {1_000 - byte: token for byte, token in BYTES.items()}
    vocab |= {0: b"ab", 5_000: b"abab", 7: b"<a>"}
    tokenizer = BPETokenizer(vocab, [(b"a", b"b"), (b"ab", b"ab")], ["<a>"])
    tokenizer.save(path)
    assert same(BPETokenizer.load(path), tokenizer)
    assert BPETokenizer.load(path).encode("abab<a>", "all") == [5_000, 7]


def test_the_format_on_disk(path):  # SPEC A1
    BPETokenizer.train("lowé low", 260, ["<|日|>"]).save(path)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {
        "format": "transformer_lessons/bpe-1",
        "pattern": "gpt4",
        "bytes": list(range(256)),
        "merges": [[ord("o"), ord("w"), 256], [ord("l"), 256, 257], [0xC3, 0xA9, 258]],
        "special_tokens": {"<|日|>": 259},
    }
    assert "日" in text
    assert text.endswith("}\n")


def test_damage_to_the_whole_is_named(path, good):  # SPEC A1, S9
    for document in ([], None, 3, "text"):
        assert str(refusal(path, document)) == f"not a JSON object ({path})"
    assert refusal(path, good | {"extra": 1}).what == "unknown key 'extra'"
    for name in good:
        less = {key: value for key, value in good.items() if key != name}
        assert refusal(path, less).what.startswith(f"{name} is missing, not of the type ")


def test_the_ids_that_end_a_text_are_kept(path):
    tokenizer = BPETokenizer(dict(enumerate(BYTES.values())), [], eos_ids=[9, 7, 9])
    tokenizer.save(path)
    assert json.loads(path.read_text())["eos_ids"] == [7, 9]
    assert BPETokenizer.load(path).eos_ids == tokenizer.eos_ids == (7, 9)


CHANGES = [
    ("format", "transformer_lessons/bpe-2", "format 'transformer_lessons/bpe-2' is not", ""),
    ("format", None, "format is missing, not of the type str", ""),
    ("pattern", "(a+)+b", "unknown split pattern '(a+)+b'", None),
    ("pattern", ["gpt4"], "pattern is ['gpt4'], not of the type str", ""),
    ("bytes", list(range(255)), "bytes has 255 ids, not 256", ""),
    ("bytes", list(range(257)), "bytes has 257 ids, not 256", ""),
    ("bytes", [0, *range(255)], "b'\\x00' must be one token", ", vocab"),
    ("bytes", [0.0, *range(1, 256)], "bytes is [0.0, 1, 2", ""),
    ("bytes", [False, *range(1, 256)], "bytes is [False, 1, 2", ""),
    ("bytes", [-1, *range(1, 256)], "an id is not 0, 1, 2, …", ", vocab"),
    ("bytes", [2**31, *range(1, 256)], "an id is not 0, 1, 2, …", ", vocab"),
    ("bytes", {}, "bytes is {}, not of the type list[int | None]", ""),
    ("merges", {}, "merges is {}, not of the type list[list[int]]", ""),
    ("merges", [[97, 98, 256], [97, 98]], "[97, 98] is not [left, right, id]", ", merges[1]"),
    ("merges", [[97, 98, 256, 257]], "[97, 98, 256, 257] is not [left, right, id]", ", merges[0]"),
    ("merges", [[97, 98, "256"]], "merges is [[97, 98, '256']], not of the type", ""),
    ("merges", [[97, 98, True]], "merges is [[97, 98, True]], not of the type", ""),
    ("merges", ["abc"], "merges is ['abc'], not of the type", ""),
    ("merges", [[97, 300, 256]], "[97, 300, 256] is not [left, right, id]", ", merges[0]"),
    ("merges", [[300, 97, 256]], "[300, 97, 256] is not [left, right, id]", ", merges[0]"),
    ("merges", [[97, 256, 256]], "[97, 256, 256] is not [left, right, id]", ", merges[0]"),
    ("merges", [[97, 98, 99]], "b'c' must be one token", ", vocab"),
    ("merges", [[97, 98, 256], [97, 99, 256]], "must be one token", ", vocab"),
    ("merges", [[97, 98, 256], [97, 98, 257]], "b'ab' must be one token", None),
    ("special_tokens", [], "special_tokens is [], not of the type dict[str, int]", ""),
    ("special_tokens", {"<a>": "300"}, "special_tokens is {'<a>': '300'}, not of", ""),
    ("special_tokens", {"<a>": None}, "special_tokens is {'<a>': None}, not of", ""),
    ("special_tokens", {"<a>": -1}, "an id is not 0, 1, 2, …", ", vocab"),
    ("special_tokens", {"<a>": 97}, "an id is taken", ", special_tokens"),
    ("special_tokens", {"<a>": 900, "<b>": 900}, "an id is taken", ", special_tokens"),
    ("eos_ids", [1, "2"], "eos_ids is [1, '2'], not of the type list[int] | None", ""),
    ("normal_form", 1, "normal_form is 1, not of the type str | None", ""),
    ("special_tokens", {"": 900}, "'' is not a string of two bytes or more", None),
    ("special_tokens", {"a": 900}, "'a' is not a string of two bytes or more", None),
    ("special_tokens", {"\udcff": 900}, "is not a string of two bytes or more", None),
]


@pytest.mark.parametrize(("name", "value", "what", "where"), CHANGES)
def test_every_kind_of_damage_is_named(path, good, name, value, what, where):  # SPEC A1, S9
    if name == "merges":  # without the special tokens, whose ids could be in the way
        good["special_tokens"] = {}
    error = refusal(path, good | {name: value})
    assert what in error.what
    assert where is None or error.where == f"{path}{where}"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "not JSON: "),
        (b"{", "not JSON: "),
        (b"\xff\xff", "not UTF-8: byte 0"),
        (b"\xff\xfe", "it is UTF-16, not UTF-8"),
        (b"[" * 100_000, "not JSON that can be read: "),
        (b'{"a":' * 100_000, "not JSON that can be read: "),
        (b"9" * 5_000, "not JSON that can be read: "),
        (b"NaN", "not a JSON object"),
        (b"\x00" * 100, "not JSON: "),
    ],
)
def test_what_is_no_json_is_named(path, content, what):  # SPEC S9
    path.write_bytes(content)
    with pytest.raises(LessonsError) as caught:
        BPETokenizer.load(path)
    assert caught.value.what.startswith(what)
    assert caught.value.where.startswith(str(path))


def test_a_missing_file_and_a_folder_are_named(tmp_path):  # SPEC S9
    with pytest.raises(LessonsError, match=r"can't read it: No such file .*absent\.json"):
        BPETokenizer.load(tmp_path / "absent.json")
    with pytest.raises(LessonsError, match="can't read it: Is a directory"):
        BPETokenizer.load(tmp_path)


@pytest.mark.parametrize("n_lines", [12, 16, 22, 27, 1_000])
def test_tokens_that_double_with_each_line_are_bounded(path, good, n_lines, monkeypatch):
    # SPEC S9
    n_bytes, plain = 0, bpe.apply_merges

    def bounded(chunk, ranks):
        nonlocal n_bytes
        n_bytes += len(chunk)
        if n_bytes > 2**22:
            pytest.fail("a file of a few lines asks for seconds of work", pytrace=False)
        return plain(chunk, ranks)

    monkeypatch.setattr(bpe, "apply_merges", bounded)
    merges = [[97, 97, 256]] + [[id, id, id + 1] for id in range(256, 255 + n_lines)]
    good |= {"merges": merges, "special_tokens": {}}
    if n_lines > 20:
        error = refusal(path, good)
        assert error.what == "the tokens take more than 2,097,152 bytes"
        assert error.where == f"{path}, merges[20]"  # 2 + 4 + ... + 2^21 is more than 2^21
    else:
        tokenizer = load(path, good)
        assert tokenizer.encode("a" * 2**n_lines + "a") == [255 + n_lines, 97]
        assert tokenizer.decode([255 + n_lines]) == "a" * 2**n_lines


JUNK = [None, True, False, -1, 0, 97, 256, 2**31, 2**70, 1.5, "", "a", "<a>", "\x00", [], {}, [[]]]


def damaged_value(document, dice):
    """A copy of `document` with one to three values lost, doubled, or replaced by another."""
    document = copy.deepcopy(document)
    for _ in range(dice.randint(1, 3)):
        holder = document
        name = dice.choice(list(holder)) if holder else None
        while name is not None and dice.random() < 0.75:
            inner = holder[name]
            if not isinstance(inner, (dict, list)) or not inner:
                break
            holder = inner
            name = dice.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        if name is None:
            continue
        accident = dice.randrange(4)
        if accident == 0:
            del holder[name]
        elif accident == 1 and isinstance(holder, list):
            holder.insert(dice.randint(0, len(holder)), copy.deepcopy(holder[name]))
        elif accident == 2 and isinstance(holder, list):
            other = dice.randrange(len(holder))
            holder[name], holder[other] = holder[other], holder[name]
        else:
            holder[name] = copy.deepcopy(dice.choice(JUNK))
    return document


def damaged_bytes(data, dice):
    """`data` after one to three accidents of a disk or an editor."""
    for _ in range(dice.randint(1, 3)):
        place = dice.randrange(len(data) + 1)
        junk = bytes(dice.choices(b'0123456789[]{},:" \\u\xff\x00-.eE', k=dice.randint(1, 3)))
        data = dice.choice(
            [
                data[:place] + junk + data[place:],
                data[:place] + data[place + dice.randint(1, 4) :],
                data[:place] + junk + data[place + len(junk) :],
                data[:place],
            ]
        )
    return data


def outcome_of_loading(path):
    """The tokenizer, or the documented error; any other is a failure of the test."""
    try:
        return BPETokenizer.load(path)
    except LessonsError as error:
        return error


@pytest.mark.parametrize("kind", ["values", "bytes"])
def test_a_damaged_file_gives_a_tokenizer_or_an_error(path, good, kind):  # SPEC A1, S2, S9
    dice, n_loaded = random.Random(0), 0
    encoded = path.read_bytes()
    for _ in range(1_000):
        if kind == "values":
            path.write_text(json.dumps(damaged_value(good, dice)), encoding="utf-8")
        else:
            path.write_bytes(damaged_bytes(encoded, dice))
        outcome = outcome_of_loading(path)
        if isinstance(outcome, LessonsError):
            assert outcome.what
            assert outcome.where
            continue
        n_loaded += 1
        assert outcome.decode(outcome.encode(TEXT, "all")) == TEXT
        assert set(outcome.vocab.values()) >= set(BYTES.values())
    assert 20 < n_loaded < 500  # both ends were reached
    assert os.listdir(path.parent) == [path.name]


def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch):  # SPEC S9
    TRAINED.save(path)
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(LessonsError, match="can't write it: No space left on device"):
        BPETokenizer(BYTES, []).save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_what_could_not_be_read_is_not_written(tmp_path):
    merges = [(b"a" * 2**i, b"a" * 2**i) for i in range(21)]
    with pytest.raises(LessonsError, match="the tokens take 4,194,302 bytes, more than 2,097,152"):
        write_bpe(tmp_path / "t.json", BPEParts({}, merges, []))
    assert list(tmp_path.iterdir()) == []
