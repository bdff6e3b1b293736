"""A conversation with a model: what was said, and the tokens that the model is to continue."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformer_lessons.errors import LessonsError
from transformer_lessons.tokenizers.tokenizer import Tokenizer

Render = Callable[[list[dict[str, str]]], str]  # messages to text, as a chat template says

# Special tokens with which models end a text, or begin the next turn of a conversation.
ENDS = (
    *("<|endoftext|>", "<|end_of_text|>", "</s>", "<|im_end|>", "<|im_start|>"),
    *("<|eot_id|>", "<|eom_id|>", "<|start_header_id|>"),
)


def eos_token_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The special tokens of `tokenizer` after which an answer is over, and their ids."""
    return {name: id for name, id in tokenizer.special_tokens.items() if name in ENDS}


@dataclass(frozen=True)
class Turn:
    """What one side said."""

    role: str  # "system", "user" or "assistant": the model
    text: str


@dataclass(frozen=True)
class Prompt:
    """The tokens for the model, and how much of the conversation did not fit."""

    tokens: list[int]
    n_turns_left_out: int = 0  # the oldest ones
    n_tokens_left_out: int = 0  # at the front of the oldest turn that is there


class Conversation:
    """The turns so far, and what a model that sees `context_length` tokens gets of them.

    With `render`, the model's chat template, turns become text with special tokens between them.
    Without, for a model that was not trained to converse, the conversation is one text: each turn
    goes on where the last one ended, the user's on a new line.

    >>> from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
    >>> conversation = Conversation(ByteTokenizer(), context_length=16)
    >>> conversation.say("1 + 1")
    >>> conversation.answer(" = 2")
    >>> conversation.say("2 + 2")
    >>> bytes(conversation.prompt(n_new=1).tokens)
    b'1 + 1 = 2\\n2 + 2'
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        context_length: int,
        render: Render | None = None,
        system: str | None = None,
    ) -> None:
        if system is not None and render is None:
            what = "a system prompt, but this model has no chat template"
            raise LessonsError(what, remedy="Begin the text with it instead.")
        self.tokenizer, self.context_length, self.render = tokenizer, context_length, render
        self.system = [] if system is None else [Turn("system", system)]
        self.turns: list[Turn] = []
        for turn in self.system:
            check_text(tokenizer, turn.text, "the system prompt", has_template=True)

    def say(self, text: str) -> None:
        """The user's turn. Text that can't be handed to the model raises, and is not kept."""
        check_text(self.tokenizer, text, "your text", self.render is not None)
        self.turns.append(Turn("user", text))

    def answer(self, text: str) -> None:
        """The model's turn."""
        self.turns.append(Turn("assistant", text))

    def undo(self) -> None:
        """Forget the user's last turn and what came after it; without one, nothing happens."""
        while self.turns and self.turns.pop().role != "user":
            pass

    def prompt(self, n_new: int) -> Prompt:
        """What the model is to continue with up to `n_new` tokens.

        They get room in the context, up to half of it. The oldest turns are left out until the
        rest fits; the last one of the user stays. A single turn that is still too long loses its
        front, but with a template, which can't be cut, it raises `LessonsError`.
        """
        n_tokens = self.context_length - min(n_new, self.context_length // 2)
        by_text = self.render is None
        starts = [i for i, turn in enumerate(self.turns) if by_text or turn.role == "user"]

        def fits(start: int) -> bool:
            return len(self.encode(self.turns[start:])) <= n_tokens

        tokens, start = self.encode(self.turns), 0
        if len(tokens) > n_tokens and len(starts) > 1:
            start = starts[bisect_left(starts[:-1], True, lo=1, key=fits)]
            tokens = self.encode(self.turns[start:])
        n_left_out = max(len(tokens) - n_tokens, 0) if by_text else 0
        if not by_text and len(tokens) > self.context_length:
            what = f"{len(tokens)} tokens, but the model sees {self.context_length} at once"
            raise LessonsError(what, where="your text", remedy="Shorten it.")
        return Prompt(tokens[n_left_out:], start, n_left_out)

    def encode(self, turns: Sequence[Turn]) -> list[int]:
        """The tokens of the system prompt and `turns`."""
        if self.render is None:
            return self.tokenizer.encode_ordinary(as_one_text(turns))
        turns = [*self.system, *turns]
        text = self.render([{"role": turn.role, "content": turn.text} for turn in turns])
        return self.tokenizer.encode(text, allowed_special="all")


def check_text(tokenizer: Tokenizer, text: str, where: str, has_template: bool) -> None:
    """Raise `LessonsError` for text without tokens, or that would forge a mark of a template."""
    tokenizer.encode_ordinary(text)
    for name in tokenizer.special_tokens if has_template else ():
        if name in text:
            what = f"{name!r} is a mark of this model's chat template"
            raise LessonsError(what, where=where, remedy="Put a space into it.")


def as_one_text(turns: Sequence[Turn]) -> str:
    """The turns one after the other; the user's begin on a new line.

    >>> as_one_text([Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")])
    'ab\\nc'
    """
    text = ""
    for turn in turns:
        new_line = turn.role == "user" and text and not text.endswith("\n")
        text += "\n" * bool(new_line) + turn.text
    return text
