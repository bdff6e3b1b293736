"""Conversations as training examples: which tokens are learned, and packing changes nothing."""

import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import IGNORE
from transformer_lessons.data.pairs import collate
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.gguf_file import read_gguf
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.training.chat_data import (
    chat_example,
    chat_examples,
    pack_examples,
    read_conversations,
)
from transformer_lessons.training.loss import cross_entropy
from transformer_lessons.weights.chat_template import load_chat_template
from transformer_lessons.weights.pretrained import gguf_tokenizer

START, END = "<|im_start|>", "<|im_end|>"
VOCAB = {byte: bytes([byte]) for byte in range(256)} | {256: b"ab", 257: b"\n\n"}
MERGES = [(b"a", b"b"), (b"\n", b"\n")]
TOKENIZER = BPETokenizer(VOCAB, MERGES, [START, END])
START_ID, END_ID = TOKENIZER.special_tokens[START], TOKENIZER.special_tokens[END]


def chatml(messages, add_generation_prompt):
    text = "".join(f"{START}{m['role']}\n{m['content']}{END}\n" for m in messages)
    return text + f"{START}assistant\n" * add_generation_prompt


def said(*contents):
    """A conversation in which user and assistant take turns."""
    roles = ("user", "assistant") * len(contents)
    return [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]


def learned_text(targets):
    return TOKENIZER.decode(targets[targets != IGNORE].tolist())


def test_learned_are_the_answers_and_their_end_tokens():  # SPEC G10
    messages = [{"role": "system", "content": "Be brief."}, *said("ab?", "ab!", "cab?", "No.")]
    inputs, targets = chat_example(chatml, messages, TOKENIZER)
    assert learned_text(targets) == f"ab!{END}No.{END}"
    whole = TOKENIZER.encode(chatml(messages, False), allowed_special="all")
    assert inputs.tolist() == whole[:-1]
    real = targets != IGNORE
    assert torch.equal(targets[real], torch.tensor(whole[1:])[real])  # the next token, shifted once


contents = st.text("ab\n <|é", min_size=1, max_size=8).filter(lambda text: text.strip())


@given(st.lists(contents, min_size=2, max_size=7), st.booleans())
def test_an_oracle_that_searches_the_text(texts, with_system):  # SPEC G10
    system = [{"role": "system", "content": "s"}] if with_system else []
    _, targets = chat_example(chatml, [*system, *said(*texts)], TOKENIZER)
    n_kept = len(texts) // 2 * 2  # a question at the end has no answer yet
    text = chatml([*system, *said(*texts[:n_kept])], False)
    found = re.findall(r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", text, re.DOTALL)
    assert learned_text(targets) == "".join(found)


def test_with_the_template_of_smollm2(smollm2):  # SPEC G10
    """It writes a system message of its own in front; special tokens stand around each message."""
    template, tokenizer = load_chat_template(smollm2), gguf_tokenizer(read_gguf(smollm2))
    _, targets = chat_example(template.render, said("Hi!", "Hello. 😀", "Bye.", "Ciao!"), tokenizer)
    learned = tokenizer.decode(targets[targets != IGNORE].tolist())
    assert learned == f"Hello. 😀{END}Ciao!{END}"


def test_an_answer_is_encoded_by_itself_as_a_chat_writes_it():
    inputs, targets = chat_example(chatml, said("a", "\nb"), TOKENIZER)
    assert 257 not in inputs  # "\n\n" would join the prompt's last character to the answer's first
    assert learned_text(targets) == f"\nb{END}"


def test_messages_after_the_last_answer_change_nothing():
    first, second = (
        chat_example(chatml, said(*texts), TOKENIZER) for texts in (("a", "b"), ("a", "b", "c"))
    )
    assert all(map(torch.equal, first, second))


def test_a_template_that_strips_is_no_mistake():
    def stripping(messages, add_generation_prompt):
        kept = [m | {"content": m["content"].strip()} for m in messages]
        return chatml(kept, add_generation_prompt)

    _, targets = chat_example(stripping, said(" a ", " b\n"), TOKENIZER)
    assert learned_text(targets) == f"b{END}"


def only_last(messages, add_generation_prompt):
    return chatml(messages[-2 + add_generation_prompt :], add_generation_prompt)


def no_user(messages, add_generation_prompt):
    return chatml([m for m in messages if m["role"] != "user"], add_generation_prompt)


def no_assistant(messages, add_generation_prompt):
    return chatml([m for m in messages if m["role"] != "assistant"], add_generation_prompt)


def upper(messages, add_generation_prompt):
    return chatml([m | {"content": m["content"].upper()} for m in messages], add_generation_prompt)


def thoughts_are_dropped(messages, add_generation_prompt):
    """As some templates do it: an answer's thoughts stay only while it is the last message."""
    last = len(messages) - 1 + add_generation_prompt
    kept = [m | {"content": m["content"].split("~")[-1]} if i < last else m
            for i, m in enumerate(messages)]  # fmt: skip
    return chatml(kept, add_generation_prompt)


@pytest.mark.parametrize(
    "template", [only_last, no_user, no_assistant, upper, thoughts_are_dropped]
)
def test_a_template_that_drops_or_changes_messages(template):  # SPEC E1
    messages = said("ab", "hm~a", "b", "ab")
    with pytest.raises(LessonsError, match=r"drops or changes what is said up to messages\[\d\]"):
        chat_example(template, messages, TOKENIZER)


def test_a_template_and_a_tokenizer_without_an_end():  # SPEC E1
    def endless(messages, add_generation_prompt):
        return chatml(messages, add_generation_prompt).replace(END, "")

    with pytest.raises(LessonsError, match="no special token ends an answer"):
        chat_example(endless, said("a", "b"), TOKENIZER)
    with pytest.raises(LessonsError, match="without special tokens"):
        chat_example(endless, said("a", "b"), ByteTokenizer())


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([{"role": "robot", "content": "a"}], "the role is 'robot', not one of system, user"),
        ([{"content": "a"}], "the role is None"),
        (["a"], "the role is None"),
        (said("a", " \n"), r"the content is empty \(messages, message 1\)"),
        ([{"role": "user", "content": 7}], "the content is empty"),
        (said("a"), "no assistant's turn"),
        ([], "no assistant's turn"),
        ("user", "not a list of messages"),
        (None, "not a list of messages"),
        (said(f"a{END}", "b"), "is a mark of the template"),
    ],
)
def test_messages_that_are_none(messages, complaint):  # SPEC E1
    with pytest.raises(LessonsError, match=complaint):
        chat_example(chatml, messages, TOKENIZER)


def test_conversations_from_a_file(tmp_path):  # SPEC G10
    path = tmp_path / "chats.jsonl"
    chats = [said("a", "é"), said("1\u20282", "3", "4", "5")]
    lines = [json.dumps({"messages": chat}, ensure_ascii=False) for chat in chats]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_conversations(path) == chats


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", "7", '{"messages": 7}', '{"messages": []}', '{"text": "a"}', "[" * 9000],
)
def test_a_line_that_is_no_conversation(tmp_path, line):  # SPEC E1
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"messages": said("a", "b")}) + f"\n{line}\n")
    with pytest.raises(LessonsError, match=r"chats.jsonl, line 2"):
        read_conversations(path)


def test_a_file_that_is_not_there(tmp_path):  # SPEC E1
    with pytest.raises(LessonsError, match="can't read it"):
        read_conversations(tmp_path / "none.jsonl")


def test_what_is_cut_off_is_counted():  # SPEC G10
    chats = [said("a", "b"), said("c", "defghijk"), said("a question", "d")]
    whole = [chat_example(chatml, chat, TOKENIZER) for chat in chats]
    length = len(whole[0][0])
    examples, n_cut = chat_examples(chatml, chats, TOKENIZER, length)
    assert len(examples) == 2  # the third one has no answer left
    assert all(map(torch.equal, examples[0], whole[0]))
    assert [len(x) for x, _ in examples] == [length, length]
    assert END_ID not in examples[1][1]  # where it was cut there is no end
    n_targets = [sum(int((y != IGNORE).sum()) for _, y in some) for some in (whole, examples)]
    assert n_cut == n_targets[0] - n_targets[1] > 2
    assert chat_examples(chatml, chats, TOKENIZER, 100)[1] == 0


def test_packed_is_as_alone(random_model):  # SPEC G10
    config = ModelConfig(260, context_length=60, d_model=8, n_layers=2, n_heads=2, d_ff=8)
    model = random_model(config)
    texts = [("a", "b"), ("ab", "cab"), ("b", "a"), ("c", "aab")]
    examples = [chat_example(chatml, said(*pair), TOKENIZER) for pair in texts]
    rows = list(pack_examples(examples, context_length=60))
    assert len(rows) == 2
    assert torch.equal(torch.cat([x[0] for x, _, _ in rows]), torch.cat([x for x, _ in examples]))
    logits, total = [], 0.0
    with torch.inference_mode():
        for inputs, targets, mask in rows:
            positions = mask[:, 0].sum(-1) - 1
            logits.append(model(inputs, positions=positions, mask=mask)[0])
            total += cross_entropy(logits[-1][None], targets, reduction="sum")
        alone = torch.cat([model(x[None])[0] for x, _ in examples])
        inputs, targets = collate(examples)
        padded = cross_entropy(model(inputs), targets, reduction="sum")
    torch.testing.assert_close(torch.cat(logits), alone, rtol=0, atol=1e-9)
    torch.testing.assert_close(total, padded, rtol=0, atol=1e-8)


def test_an_example_longer_than_a_row():  # SPEC E1
    example = (torch.arange(5), torch.arange(5))
    assert len(list(pack_examples([example] * 3, context_length=5))) == 3
    assert list(pack_examples([], context_length=5)) == []
    with pytest.raises(LessonsError, match=r"5 tokens, but a row has 4 \(examples\[1\]\)"):
        list(pack_examples([(torch.arange(3), torch.arange(3)), example], context_length=4))
