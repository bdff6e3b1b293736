"""One protocol, three tokenizers: whatever can be asked of one can be asked of all."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tiktoken_tokenizer import TiktokenTokenizer
from transformer_lessons.tokenizers.tokenizer import Tokenizer, fingerprint, load_tokenizer

END = "<|endoftext|>"
TEXT = "the cat sat on the mat, and the rat on the hat; "
SAMPLES = ["", "a", "the cat", "é€😀", " \n\t\x00 ", "a" * 5_000, "नमस्ते", f"x{END}y", "\ufffd"]


def tiktoken_or_skip():
    try:
        return TiktokenTokenizer("cl100k_base")
    except LessonsError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"CL100K_BASE IS NOT TESTED: {error}")


@pytest.fixture(scope="module", params=["bytes", "bpe", "tiktoken"])
def tokenizer(request):
    if request.param == "bytes":
        return ByteTokenizer()
    if request.param == "bpe":
        return BPETokenizer.train(TEXT, vocab_size=290, special_tokens=[END])
    return tiktoken_or_skip()


def test_it_has_what_the_protocol_names(tokenizer):  # SPEC A2
    assert isinstance(tokenizer, Tokenizer)
    assert not isinstance("tokenizer", Tokenizer)


@pytest.mark.parametrize("text", SAMPLES)
def test_text_comes_back(tokenizer, text):  # SPEC A2
    ids = tokenizer.encode_ordinary(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode("utf-8")
    assert all(type(id) is int and 0 <= id < tokenizer.n_vocab for id in ids)


@given(text=st.text())
def test_any_text_comes_back(tokenizer, text):  # SPEC A2
    assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text


@pytest.mark.parametrize("text", [text for text in SAMPLES if END not in text])
def test_without_special_tokens_encode_is_encode_ordinary(tokenizer, text):
    assert tokenizer.encode(text) == tokenizer.encode_ordinary(text)


def test_special_tokens_are_ids_below_n_vocab(tokenizer):
    for text, id in tokenizer.special_tokens.items():
        assert 0 <= id < tokenizer.n_vocab
        assert tokenizer.decode([id]) == text
        assert tokenizer.encode(text, allowed_special=text) == [id]
        assert tokenizer.encode(text, allowed_special=[text]) == [id]
        assert tokenizer.encode(text, allowed_special="all") == [id]
        assert id not in tokenizer.encode_ordinary(text)
        with pytest.raises(LessonsError, match="special token"):
            tokenizer.encode(f"x{text}")
        with pytest.raises(LessonsError, match=r"'no' is not a special token \(allowed_special\)"):
            tokenizer.encode("x", allowed_special=["no"])


@pytest.mark.parametrize("id", [-1, 2**40, 10**6])
def test_an_id_of_no_token_is_named(tokenizer, id):
    for decode in (tokenizer.decode, tokenizer.decode_bytes):
        with pytest.raises(LessonsError, match=f"token {id} is not .* \\(position 1\\)"):
            decode([97, id])


def test_half_a_character_is_refused(tokenizer):
    for encode in (tokenizer.encode, tokenizer.encode_ordinary):
        with pytest.raises(LessonsError, match=r"is not a character \(position 1\)"):
            encode("a\ud800b")


def test_bytes_that_are_not_utf8_are_marked(tokenizer):
    first_byte = next(id for id in range(256) if tokenizer.decode_bytes([id]) == b"\xc3")
    assert tokenizer.decode([first_byte]) == "\ufffd"


def test_a_saved_one_is_read_back(tokenizer, tmp_path):  # SPEC A2
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    for again in (type(tokenizer).load(path), load_tokenizer(str(path))):
        assert type(again) is type(tokenizer)
        assert again.n_vocab == tokenizer.n_vocab
        assert again.special_tokens == tokenizer.special_tokens
        for text in SAMPLES:
            assert again.encode_ordinary(text) == tokenizer.encode_ordinary(text)
        assert fingerprint(again) == fingerprint(tokenizer)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


def test_a_file_of_another_kind_is_refused(tokenizer, tmp_path):
    others = {"bytes": ByteTokenizer(), "bpe": BPETokenizer.train(TEXT, 270)}
    for name, other in others.items():
        if type(other) is not type(tokenizer):
            other.save(tmp_path / name)
            with pytest.raises(LessonsError, match=name):
                type(tokenizer).load(tmp_path / name)
    later = {"format": "transformer_lessons/tiktoken-2", "name": "cl100k_base"}
    (tmp_path / "tiktoken.json").write_text(json.dumps(later))
    with pytest.raises(LessonsError, match=r"tiktoken\.json"):
        type(tokenizer).load(tmp_path / "tiktoken.json")


@pytest.mark.parametrize(
    "document",
    [[], {}, 1, None, {"format": 1}, {"format": ["transformer_lessons/bpe-1"]}, {"format": "gpt2"}],
)
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, document):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(document))
    with pytest.raises(LessonsError, match=r"^not a tokenizer of this book \(.*t\.json\)\. `save`"):
        load_tokenizer(path)


@pytest.mark.parametrize("name", ["gpt9", None, ["cl100k_base"], 1])
def test_a_tiktoken_file_names_a_known_encoding(tmp_path, name):
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"format": "transformer_lessons/tiktoken-1", "name": name}))
    with pytest.raises(LessonsError, match="unknown encoding"):
        load_tokenizer(path)


@pytest.mark.parametrize("name", ["bytes", "cl100k_base", "gpt2"])
def test_names_are_loaded(name):  # SPEC A2
    try:
        assert load_tokenizer(name).n_vocab == {"bytes": 256, "gpt2": 50_257}.get(name, 100_277)
    except LessonsError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))


def test_a_run_folder_its_checkpoints_and_a_hugging_face_file_are_loaded(tmp_path, monkeypatch):
    # SPEC A2
    tokenizer, checkpoint = BPETokenizer.train(TEXT, 270), tmp_path / "step-00000400"
    checkpoint.mkdir()
    for path in (tmp_path, checkpoint):
        with pytest.raises(LessonsError, match=r"No such file .*tokenizer\.json"):
            load_tokenizer(path)
    for save in (tokenizer.save, tokenizer.to_huggingface):
        save(tmp_path / "tokenizer.json")
        for path in (tmp_path, str(checkpoint), tmp_path / "tokenizer.json"):
            assert load_tokenizer(path).merges == tokenizer.merges
    monkeypatch.chdir(checkpoint)
    assert load_tokenizer(".").merges == tokenizer.merges


def test_fingerprints_tell_tokenizers_apart():
    tokenizers = [
        ByteTokenizer(),
        BPETokenizer.train(TEXT, 270),
        BPETokenizer.train(TEXT, 271),
        BPETokenizer.train(TEXT, 271, special_tokens=["<|x|>"]),
        BPETokenizer.train(TEXT, 270, pattern="gpt2"),
    ]
    assert len({fingerprint(tokenizer) for tokenizer in tokenizers}) == len(tokenizers)
