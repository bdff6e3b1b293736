"""Conversations as training examples: what is read, and what of it is learned. Lesson 22.

A file of conversations has one a line, as JSON (JSON Lines):

    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.data.packing import document_mask
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.files import decode_utf8

if TYPE_CHECKING:  # who trains on pairs or windows loads no tokenizer
    from transformer_lessons.tokenizers.tokenizer import Tokenizer

Messages = Sequence[dict[str, str]]  # {"role": …, "content": …} each
Example = tuple[Tensor, Tensor]  # inputs and targets, (T,) each
Template = Callable[[Messages, bool], str]  # messages, whether to open an answer -> text
ROLES = ("system", "user", "assistant")


def read_conversations(path: Path | str) -> list[Messages]:
    """The conversations of a JSONL file; a bad line raises `LessonsError` with its number."""
    conversations = []
    try:
        text = decode_utf8(Path(path).read_bytes(), where=str(path))
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        try:
            messages = json.loads(line)["messages"]
        except (ValueError, TypeError, KeyError, RecursionError):
            remedy = 'A line is {"messages": [{"role": "user", "content": "…"}, …]}.'
            what, where = "no conversation", f"{path}, line {number}"
            raise LessonsError(what, where=where, remedy=remedy) from None
        _check_messages(messages, where=f"{path}, line {number}")
        conversations.append(messages)
    return conversations


def chat_example(template: Template, messages: Messages, tokenizer: "Tokenizer") -> Example:
    """A conversation as inputs and targets (T,); all targets but the assistant's are `IGNORE`.

    Learned are the words of each answer and the special token that ends it. Where an answer begins
    is found by rendering: the text of the messages before it, with the answer opened, must be the
    beginning of the text with it. `template(messages, add_generation_prompt)` renders, for example
    `ChatTemplate.render`. Messages after the last answer are left out. A template that drops or
    rewrites messages, or ends an answer with no special token, raises `LessonsError`.
    """
    _check_messages(messages, "messages", tokenizer.special_tokens)
    if not (special := set(tokenizer.special_tokens.values())):
        raise LessonsError("a tokenizer without special tokens can't end an answer", where="chat")
    ids: list[int] = []
    learned: list[bool] = []
    before, first = "", 0
    for place in (i for i, message in enumerate(messages) if message["role"] == "assistant"):
        prompt, whole = template(messages[:place], True), template(messages[: place + 1], False)
        question, answer = prompt[len(before) :], whole[len(prompt) :]
        for i in range(first, place + 1):
            kept = messages[i]["content"].strip() in (answer if i == place else question)
            if not kept or not prompt.startswith(before) or not whole.startswith(prompt):
                what = f"the template drops or changes what is said up to messages[{i}]"
                raise LessonsError(what, where="chat template", remedy="Train on single turns.")
        # As in a chat: the prompt becomes tokens before there is an answer.
        asked, said = (
            tokenizer.encode(text, allowed_special="all")  # type: ignore[call-arg]
            for text in (question, answer)
        )
        ends = [i for i, id in enumerate(said) if id in special]
        if not ends:
            what, remedy = "no special token ends an answer", "A model can't learn to stop then."
            raise LessonsError(what, where="chat template", remedy=remedy)
        ids += asked + said
        learned += [False] * len(asked) + [i <= ends[-1] for i in range(len(said))]
        before, first = whole, place + 1
    tokens = torch.tensor(ids)
    return tokens[:-1], tokens[1:].where(torch.tensor(learned[1:]), IGNORE)


def chat_examples(
    template: Template,
    conversations: Iterable[Messages],
    tokenizer: "Tokenizer",
    context_length: int,
) -> tuple[list[Example], int]:
    """The examples of `conversations`, and how many targets were cut off to make them fit.

    Of a conversation over `context_length` tokens the beginning is kept, and nothing is put at the
    cut: an end there would be a lie. One that has no target left is left out.
    """
    whole = [chat_example(template, messages, tokenizer) for messages in conversations]
    cut = [(x[:context_length], y[:context_length]) for x, y in whole]
    before, after = (
        sum(int((y != IGNORE).sum()) for _, y in examples) for examples in (whole, cut)
    )
    return [example for example in cut if (example[1] != IGNORE).any()], before - after


def pack_examples(
    examples: Sequence[Example], context_length: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Whole examples side by side, in order, in rows of at most `context_length` tokens.

    A row is inputs and targets (1, T) and a mask (1, 1, T, T) that keeps each example alone; its
    positions are mask[:, 0].sum(-1) - 1. A longer example raises `LessonsError`.
    """
    rows: list[list[Example]] = [[]]
    for number, example in enumerate(examples):
        if len(example[0]) > context_length:
            what = f"{len(example[0])} tokens, but a row has {context_length}"
            raise LessonsError(what, where=f"examples[{number}]", remedy="See `chat_examples`.")
        if sum(len(inputs) for inputs, _ in [*rows[-1], example]) > context_length:
            rows.append([])
        rows[-1].append(example)
    for row in filter(None, rows):
        inputs, targets = (torch.cat(part)[None] for part in zip(*row, strict=True))
        is_last = torch.cat([torch.arange(len(x)) == len(x) - 1 for x, _ in row])
        yield inputs, targets, document_mask(is_last.long(), end_of_text=1)[None, None]


def _check_messages(messages: Messages, where: str, special: Iterable[str] = ()) -> None:
    """Raise `LessonsError` unless each message has a role and words, and one is an answer."""
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise LessonsError("not a list of messages", where=where)
    for place, message in enumerate(messages):
        message, here = message if isinstance(message, dict) else {}, f"{where}, message {place}"
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            what = f"the role is {role!r:.40}, not one of {', '.join(ROLES)}"
            raise LessonsError(what, where=here)
        if not isinstance(content, str) or not content.strip():
            raise LessonsError("the content is empty", where=here)
        if found := [name for name in special if name in content]:
            raise LessonsError(f"{found[0]!r} is a mark of the template", where=here)
    if not any(message["role"] == "assistant" for message in messages):
        raise LessonsError("no assistant's turn: nothing to learn", where=where)
