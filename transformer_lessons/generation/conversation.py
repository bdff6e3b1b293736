"""A conversation with a model: what was said, and what the model answers. Lesson 18."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import eos_token_ids, known_tokens, stream
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.generation.text_stream import TextStreamer
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.tokenizers.tokenizer import Tokenizer

Template = Callable[[list[dict[str, str]]], str]  # messages to text, as a chat template says


@dataclass(frozen=True)
class Message:
    """What one side said."""

    role: str  # "system", "user" or "assistant": the model
    content: str


@dataclass(eq=False, repr=False)
class Conversation:
    """The messages so far, and what a model that sees `context_length` tokens gets of them.

    With `template`, the model's chat template, messages become text with special tokens between
    them. Without, for a model that was not trained to converse, the conversation is one text: each
    message goes on where the last one ended, the user's on a new line.
    """

    model: Decoder
    tokenizer: Tokenizer
    template: Template | None = None
    system: str | None = None  # what the model is told before everything else
    sampler: Sampler = field(default_factory=Sampler)
    max_new_tokens: int = 200  # of an answer
    stop: Sequence[str] = ()  # strings at which an answer ends
    seed: int = 0  # of the next answer; each adds 1
    stream_fn: Callable[..., Iterator[int]] = stream  # or one that speculates
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.system is not None and self.template is None:
            what = "a system prompt, but this model has no chat template"
            raise LessonsError(what, remedy="Begin the text with it instead.")
        self._check(self.system or "", "the system prompt")
        self.prompt: list[int] = []
        self.n_left_out, self.answer = 0, TextStreamer(self.tokenizer, ())
        self.known = known_tokens(self.tokenizer, self.model.config.vocab_size)

    def say(self, text: str) -> str:
        """The model's answer to `text`; both are kept. Without `text`, the model goes on."""
        return "".join(self.stream(text))

    def stream(self, text: str) -> Generator[str, None, None]:
        """The same piece by piece, as it is written; what was written when you stop is kept.

        `prompt` is what the model reads, without the `n_left_out` oldest tokens; `answer` writes.
        """
        self._check(text, "your text")
        messages = [*self.messages, *([Message("user", text)] if text else [])]
        self.prompt, self.n_left_out = self._fit(messages)
        eos = eos_token_ids(self.tokenizer)
        # Where a template is used, an answer must not spell out what ends one, either.
        names = [name for name, id in self.tokenizer.special_tokens.items() if id in eos]
        stop = (*self.stop, *(names if self.template is not None else ()))
        given = self.prompt, self.max_new_tokens, self.sampler, self.seed, eos
        tokens = self.stream_fn(self.model, *given, allowed=self.known)
        self.answer = TextStreamer(self.tokenizer, tokens, eos, stop)
        self.seed = (self.seed + 1) % 2**63
        try:
            yield from self.answer
        finally:
            if self.answer.read_tokens:  # what was not answered was not said
                self.messages = [*messages, Message("assistant", self.answer.text)]

    def _fit(self, messages: Sequence[Message]) -> tuple[list[int], int]:
        """The tokens for the model, and how many of the conversation's were left out.

        New tokens get room in the context, up to half of it. The oldest messages are left out until
        the rest fits. The last one stays; if it is still too long it loses its front, but with a
        template, which can't be cut, it raises `LessonsError`.
        """
        context_length, by_text = self.model.config.context_length, self.template is None
        n_tokens = context_length - min(self.max_new_tokens, context_length // 2)
        starts = [i for i, message in enumerate(messages) if by_text or message.role == "user"]
        tokens = self._encode(messages)
        n_whole = len(tokens)
        for start in starts[1:]:
            if len(tokens) <= n_tokens:
                break
            tokens = self._encode(messages[start:])
        if by_text:
            tokens = tokens[-n_tokens:]
        elif len(tokens) > context_length:
            what = f"{len(tokens)} tokens, but the model sees {context_length} at once"
            raise LessonsError(what, where="your text", remedy="Shorten it.")
        return tokens, n_whole - len(tokens)

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of the system prompt and `messages`."""
        if self.template is None:
            text = ""
            for message in messages:
                new_line = message.role == "user" and text and not text.endswith("\n")
                text += "\n" * bool(new_line) + message.content
            return self.tokenizer.encode_ordinary(text)
        system = [] if self.system is None else [Message("system", self.system)]
        text = self.template([vars(message) for message in (*system, *messages)])
        return self.tokenizer.encode(text, allowed_special="all")  # type: ignore[call-arg]

    def _check(self, text: str, where: str) -> None:
        """Raise `LessonsError` for text without tokens, or one that forges a mark of a template."""
        self.tokenizer.encode_ordinary(text)
        for name in self.tokenizer.special_tokens if self.template is not None else ():
            if name in text:
                what = f"{name!r} is a mark of this model's chat template"
                raise LessonsError(what, where=where, remedy="Put a space into it.")
