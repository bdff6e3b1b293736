"""What can be asked of the commands that run a trained model, of `doctor` and `demo`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from transformer_lessons.config import Allowed, Count, Seed, one_of
from transformer_lessons.errors import LessonsError

SMALL, SMOLLM2 = "python-small", "smollm2-135m"
LONGEST = 100_000  # tokens of a text or an answer
SAMPLING = {  # how the next token is chosen
    "temperature": "below 1 surer, above 1 more varied; 0 (greedy), or at least 0.001",
    "top_k": "only the k most likely tokens; at least 1",
    "top_p": "only the most likely tokens that sum to p; above 0, at most 1",
    "min_p": "only tokens at least p times as likely as the best; from 0 to 1",
    "repetition_penalty": "make tokens that occurred less likely; from 1 to 10",
    "frequency_penalty": "the same, for each time they occurred; from 0 to 10",
}
Length = Annotated[int, Allowed(f"from 0 to {LONGEST:,}", lambda v: 0 <= v <= LONGEST)]
Pause = Annotated[float, Allowed("from 0 to 10 seconds", lambda v: 0 <= v <= 10)]
Rule = Annotated[int, Allowed("from 0 to 255", lambda v: 0 <= v <= 255)]
Format = Annotated[str, one_of("gguf", "onnx", "huggingface", "tiktoken", "json", "page")]


@dataclass(frozen=True)
class ModelOptions:
    """What commands that generate inherit."""

    checkpoint: Annotated[Path | None, Positional] = None
    """A run folder or one of its checkpoints, a Hugging Face folder, or a GGUF file."""
    model: str | None = None
    """By name: python-small, which ships with the package and is the default, or smollm2-135m."""
    max_new_tokens: Length = 200
    """How many tokens to write, at most; of a chat, in each answer."""
    stop: tuple[str, ...] = ()
    """Strings at which the text ends."""
    speculate: str | None = None
    """Guess tokens and check them in one pass: "lookup", or a model with the same tokenizer."""
    guesses: Count = 4
    """How many tokens to guess at a time, with --speculate."""
    seed: Seed = 0
    """The same seed writes the same text. In a chat, each answer adds 1."""
    compile: bool = False
    """Compile the model: it takes a minute or two, once for each length of text, and is kept."""
    bits: Literal[8, 4] | None = None
    """Round the weights to 8 or 4 bits. With --compile, one text is faster."""
    preset: str | None = None
    """Named settings: greedy, sure, balanced, varied or plain. The options below change them."""
    temperature: Annotated[float | None, arg(help=SAMPLING["temperature"])] = None
    top_k: Annotated[int | None, arg(help=SAMPLING["top_k"])] = None
    top_p: Annotated[float | None, arg(help=SAMPLING["top_p"])] = None
    min_p: Annotated[float | None, arg(help=SAMPLING["min_p"])] = None
    repetition_penalty: Annotated[float | None, arg(help=SAMPLING["repetition_penalty"])] = None
    frequency_penalty: Annotated[float | None, arg(help=SAMPLING["frequency_penalty"])] = None

    def __post_init__(self) -> None:
        if self.checkpoint is not None and self.model is not None:
            raise LessonsError("give either a checkpoint or --model")
        if "" in self.stop:
            raise LessonsError("a stop string is empty", where="--stop", remedy="Give a character.")


@dataclass(frozen=True)
class Generate(ModelOptions):
    """Let a trained model continue a prompt, or many at once.

    Without --preset and --temperature, the temperature is 0.2, which suits small models.
    """

    prompt: str | None = None
    """The text to continue."""
    prompts_file: Path | None = None
    """A file with a prompt a line, as it is or as a JSON string. "-" is standard input."""
    n_samples: Count = 1
    """How many texts to write for each prompt."""
    probabilities: bool = False
    """Show each token on a line of its own, with the probability the model gave it."""
    json: bool = False
    """A JSON object a line: prompt, text, tokens, and why it ended."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.prompt is None) == (self.prompts_file is None):
            remedy = 'For example --prompt "def ".'
            raise LessonsError("give either --prompt or --prompts-file", remedy=remedy)
        are_many = self.n_samples > 1 or self.prompts_file is not None
        if self.probabilities and (are_many or self.json or self.stop or self.speculate):
            what = "one text at a time, without --json, --stop and --speculate"
            raise LessonsError(what, where="--probabilities")


@dataclass(frozen=True)
class Chat(ModelOptions):
    """Talk with a model. It starts with the preset balanced; type help to see what else there is.

    Standard input need not be a terminal: then each line is a message, and bad input ends it.
    """

    persona: str = "none"
    """A style: pirate or terse, for smollm2-135m; a folder of LoRA adapters; or none."""
    system: str | None = None
    """What the model is told before the conversation, if it was trained to converse."""


@dataclass(frozen=True)
class Evaluate:
    """Compare trained models on one text: loss, perplexity, and bits per byte.

    Only bits per byte compares models whose tokenizers differ.
    """

    checkpoints: Annotated[tuple[Path, ...], Positional]
    """Run folders, checkpoints of them, Hugging Face folders, GGUF files, or the names
    python-small and smollm2-135m."""
    text: str | None = None
    """The text to judge by: a file or folder of documents."""
    corpus: bool = False
    """Judge by the part of Python's documentation that `train --corpus` holds out."""
    best: bool = False
    """Take the best checkpoint of each run folder, not the latest."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""

    def __post_init__(self) -> None:
        if not self.checkpoints:
            raise LessonsError("give at least one run folder")
        if (self.text is None) == (not self.corpus):
            raise LessonsError("give either --text FILE or --corpus")


@dataclass(frozen=True)
class Export:
    """Write a model in a format of others; it is there whole or not at all."""

    model: Annotated[Path, Positional]
    """A run folder or one of its checkpoints, a Hugging Face folder, a GGUF file, or a name."""
    to: Format
    """gguf (for llama.cpp: model, tokenizer, chat template), onnx (a graph for onnxruntime, without
    a tokenizer), huggingface (a folder for transformers, with the card of a run), tiktoken (the
    ranks of the tokenizer), json (a model in float32, for any language) or page (8 bits, for the
    book's page that follows a text)."""
    out: Path
    """Where it goes; there must be nothing yet."""
    kind: str | None = None
    """Of a GGUF file: F32, F16 (which is the default), Q8_0 or Q4_0."""
    license: str | None = None
    """What the card says about it, such as apache-2.0; without it, the card asks."""

    def __post_init__(self) -> None:
        for name, format in {"kind": "gguf", "license": "huggingface"}.items():
            if getattr(self, name) is not None and self.to != format:
                raise LessonsError(f"it is for {format}", where=f"--{name}")
        if self.out.exists():
            remedy = "Choose another --out, or remove it."
            raise LessonsError("it exists already", where=str(self.out), remedy=remedy)


@dataclass(frozen=True)
class Inspect:
    """Show what a model, a tokenizer or a token file is made of."""

    what: Annotated[Path, Positional]
    """A run folder or one of its checkpoints, a Hugging Face folder, a GGUF file, a token file
    (.npy), a tokenizer's file (.json), or a name: bytes, gpt2, cl100k_base, python-small."""
    card: bool = False
    """Of a run: how it was made, in Markdown."""


@dataclass(frozen=True)
class Doctor:
    """Compare this machine's device with the CPU in float64, and see which data type is fast.

    The exit code is 1 if the device computes wrongly.
    """

    device: str = "auto"
    """auto, cpu, cuda or mps."""


@dataclass(frozen=True)
class Demo:
    """Watch the model with 2,656 parameters learn a short text that repeats, then let it write.

    Or a slightly larger one, another domain: a cellular automaton, or moves of tic-tac-toe.
    """

    domain: Annotated[str, one_of("text", "automaton", "game")] = "text"
    """What is learned: text, automaton or game."""
    text: str = "ab"
    """What repeats. The default is learned in seconds; longer texts may be too much for it."""
    rule: Rule = 110
    """The number of the elementary automaton, from 0 to 255."""
    steps: Count | None = None
    """Training steps; by default, as many as the domain needs."""
    seed: Seed = 0
    """Another seed starts from other random numbers."""
    pause: Pause = 0.06
    """Seconds to wait after each refresh of the screen, so that you can watch."""

    def __post_init__(self) -> None:
        if not self.text:
            raise LessonsError("--text is empty", remedy="Give one character or more.")
