"""Tokenizers in GGUF files: the ids are those of `tokenizers` with the same vocabulary."""

import pickle

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.gguf_file import GGUFFile
from transformer_lessons.support.tokenizer_json import HUGGINGFACE_PATTERNS, byte_characters
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.weights.pretrained import gguf_tokenizer

CHARACTERS = byte_characters()
LEARNED_FROM = "In 1984 the café didn't sell 12 books, it's said; 日本 sold 340 of them. " * 3
SPECIAL = ["<|im_start|>", "<|im_end|>", "<tool_call>"]
PRES = {"gpt-2": "gpt2", "smollm": "smollm2", "qwen2": "qwen2", "llama-bpe": "llama3"}
TEXTS = st.text(
    st.one_of(
        st.sampled_from("In 1984 the café didn't sold 340 of 日本\n\t"),
        st.characters(exclude_categories=["Cs", "Cn"]),
    ),
    max_size=40,
)


def spell(token):
    return "".join(CHARACTERS[byte] for byte in token)


def metadata_of(pre, lacks=(), learned_from=LEARNED_FROM):
    """The metadata of a tokenizer with two control tokens, one of users, and unused ids."""
    learned = BPETokenizer.train(learned_from, 280, pattern=PRES[pre])
    ordinary = [token for token in learned.vocab.values() if token not in lacks]
    tokens = SPECIAL[:2] + [spell(token) for token in ordinary] + [SPECIAL[2], "[PAD0]", "[PAD1]"]
    types = [3, 3] + [1] * len(ordinary) + [4, 5, 5]
    merges = [f"{spell(left)} {spell(right)}" for left, right in learned.merges]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
    }


def file_with(metadata, path="a.gguf"):
    return GGUFFile(path, 3, metadata, {})


def opened(metadata):
    """The same vocabulary and merges in `tokenizers`."""
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(line.split(" ")) for line in metadata["tokenizer.ggml.merges"]]
    vocab = {token: id for id, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, merges))
    pattern = HUGGINGFACE_PATTERNS[PRES[metadata["tokenizer.ggml.pre"]]]
    split = pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    if metadata["tokenizer.ggml.pre"] == "qwen2":  # as in Qwen's own tokenizer.json
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


@pytest.mark.parametrize("pre", PRES)
def test_ids_are_those_of_tokenizers(pre):  # SPEC G5, A1
    metadata = metadata_of(pre)
    own, theirs = gguf_tokenizer(file_with(metadata)), opened(metadata)
    assert own.pattern == PRES[pre]
    assert own.special_tokens == {"<|im_start|>": 0, "<|im_end|>": 1, "<tool_call>": 282}
    assert own.n_vocab == 283  # ids 283 and 284 are unused

    @given(text=TEXTS)
    @settings(max_examples=100)
    def check(text):
        assert own.encode(text, "all") == theirs.encode(text).ids
        if pre != "qwen2":
            assert own.decode(own.encode(text, "all")) == text

    check()
    assert own.encode("cafe\u0301") == theirs.encode("cafe\u0301").ids
    chat = "<|im_start|>user\nIn 1984?<|im_end|>\n<tool_call>"
    assert own.encode(chat, "all") == theirs.encode(chat).ids
    with pytest.raises(LessonsError, match="special token"):
        own.encode(chat)


def test_every_pair_of_a_llama_3_may_be_listed():  # SPEC G5
    metadata = metadata_of("llama-bpe", learned_from="aa aaaa aaaaaa abab ababab " * 9)
    own = gguf_tokenizer(file_with(metadata))
    tokens = set(metadata["tokenizer.ggml.tokens"][2:-3])
    pairs = [
        f"{token[:cut]} {token[cut:]}"
        for token in metadata["tokenizer.ggml.tokens"][2:-3]  # in the order of the ids
        for cut in range(1, len(token))
        if {token[:cut], token[cut:]} <= tokens
    ]
    assert len(pairs) > len(metadata["tokenizer.ggml.merges"])
    listed = gguf_tokenizer(file_with(metadata | {"tokenizer.ggml.merges": pairs}))
    assert listed.merges == own.merges
    assert listed.vocab == own.vocab
    with pytest.raises(LessonsError, match=r"several merges, but not every .*, in order"):
        gguf_tokenizer(file_with(metadata | {"tokenizer.ggml.merges": sorted(pairs)}))


def test_bytes_may_be_missing_and_then_are_refused(tmp_path):  # SPEC G5, S9
    own = gguf_tokenizer(file_with(metadata_of("smollm", lacks=[b"\x04", b"\xf1"])))
    assert own.missing_bytes == [0x04, 0xF1]
    own.save(tmp_path / "tokenizer.json")
    again = BPETokenizer.load(tmp_path / "tokenizer.json")
    for tokenizer in (own, again, pickle.loads(pickle.dumps(own))):
        assert tokenizer.vocab == own.vocab
        assert tokenizer.decode(tokenizer.encode("In 1984 日本 \x05")) == "In 1984 日本 \x05"
        for text in ("\x04", "In 1984\x04", "a\U00040000"):
            with pytest.raises(LessonsError, match=r"lacks the byte 0x(04|f1)"):
                tokenizer.encode(text)
    with pytest.raises(LessonsError, match="lacks the byte 0x04, which tiktoken needs"):
        own.to_tiktoken()


def test_missing_bytes_must_be_said_and_be_missing():  # SPEC S9
    vocab = {id: bytes([id]) for id in range(1, 256)}
    with pytest.raises(LessonsError, match="must be one token, as a byte"):
        BPETokenizer(vocab, [])
    with pytest.raises(LessonsError, match="must be one token, as a byte"):
        BPETokenizer(vocab, [], missing_bytes=[0, 1])
    with pytest.raises(LessonsError, match="it is empty"):
        BPETokenizer({}, [], missing_bytes=range(256))


def test_the_ids_with_which_a_text_ends_are_the_files():  # SPEC G5
    metadata = metadata_of("smollm")
    assert gguf_tokenizer(file_with(metadata)).eos_ids == ()
    ends = {"eos": 1, "eot": 0, "eom": 283, "bos": 7, "unk": "x"}  # 283 is unused
    metadata |= {f"tokenizer.ggml.{name}_token_id": id for name, id in ends.items()}
    own = gguf_tokenizer(file_with(metadata))
    assert own.eos_ids == pickle.loads(pickle.dumps(own)).eos_ids == (0, 1)
    for odd in ("1", [1], -1, 10**30, True):
        metadata["tokenizer.ggml.eos_token_id"] = odd
        assert gguf_tokenizer(file_with(metadata)).eos_ids == (0,)


def test_a_file_without_a_tokenizer():  # SPEC G5
    assert gguf_tokenizer(file_with({"general.architecture": "llama"})) is None


REFUSED = {
    "sentencepiece": ({"model": "llama"}, "'llama' is not gpt2"),
    "another split": ({"pre": "tekken"}, "cutting text like 'tekken' is not known"),
    "no split": ({"pre": None}, "cutting text like 'None' is not known"),
    "a split that is a list": ({"pre": [1]}, "cutting text like .* is not known"),
    "tokens that are numbers": (
        {"tokens": [1, 2]},
        r"tokenizer.ggml.tokens is \[1, 2\], not of the type list\[str\] \(a.gguf, metadata\)",
    ),
    "no types": ({"token_type": None}, "token_type is missing, not of the type"),
    "a type too few": ({"token_type": [1] * 284}, "not a type for each token"),
    "a type that isn't known": ({"token_type": [6] * 285}, "has the type 6"),
    "a merge of three": ({"merges": ["a b c"]}, "'a b c' is not two tokens and a space"),
    "a merge of one": ({"merges": ["ab"]}, "'ab' is not two tokens and a space"),
    "a merge of nothing": ({"merges": [" "]}, "b'' is not in the vocabulary"),
    "a merge that can't be spelled": ({"merges": ["a 日"]}, "stands for no byte"),
    "merges of other tokens": ({"merges": ["q z"]}, "b'qz' is not in the vocabulary"),
    "no merges": ({"merges": []}, "must be one token"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):  # SPEC S9
    changed, what = REFUSED[name]
    metadata = metadata_of("gpt-2")
    assert len(metadata["tokenizer.ggml.tokens"]) == 285
    metadata |= {f"tokenizer.ggml.{key}": value for key, value in changed.items()}
    with pytest.raises(LessonsError, match=what) as caught:
        gguf_tokenizer(file_with(metadata))
    assert "a.gguf, " in caught.value.where
