"""What can be set during a chat, each setting with what it does and what it may be."""

from dataclasses import dataclass, replace

from transformer_lessons.cli import check_seed
from transformer_lessons.cli.sampling_options import check_vocabulary
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.sampling import Sampler

LONGEST = 100_000  # tokens of an answer

# What each setting does. Those of the sampler check themselves.
SETTINGS = {
    "temperature": "below 1 surer, above 1 more varied; at least 0.001",
    "greedy": "on: always the most likely token, whatever the temperature",
    "top_k": "only the k most likely tokens; off, or at least 1",
    "top_p": "only the most likely tokens that sum to p; above 0, at most 1",
    "min_p": "only tokens at least p times as likely as the best; from 0 to 1",
    "repetition_penalty": "make tokens that occurred less likely; from 1 to 10",
    "frequency_penalty": "the same, for each time they occurred; from 0 to 10",
    "max_new_tokens": f"the length of an answer; from 1 to {LONGEST:,}",
    "seed": "of the next answer; each one after it adds 1; 0 or more",
    "bars": "on: each token on a line, with its probability",
}
SWITCHES = {"on": True, "true": True, "off": False, "false": False}


@dataclass(frozen=True)
class Settings:
    """How the next answer is made and shown."""

    sampler: Sampler
    max_new_tokens: int = 200
    seed: int = 0
    bars: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.max_new_tokens <= LONGEST:
            what = f"max_new_tokens = {self.max_new_tokens} is not from 1 to {LONGEST:,}"
            raise LessonsError(what)
        check_seed(self.seed)

    def value(self, name: str) -> object:
        """The setting called `name`, as in `SETTINGS`."""
        return getattr(self if hasattr(self, name) else self.sampler, name)

    def shown(self, name: str) -> str:
        """The setting called `name` as a user would type it."""
        value = self.value(name)
        if value is None or value is False:
            return "off"
        return "on" if value is True else str(value)

    def change(self, name: str, text: str, vocab_size: int) -> "Settings":
        """The same with the setting `name` as `text` says; what can't be raises `LessonsError`."""
        name = name.replace("-", "_")
        if name not in SETTINGS:
            remedy = f"Known: {', '.join(SETTINGS)}."
            raise LessonsError(f"no setting {name!r}", remedy=remedy)
        value = read_value(name, text, self.value(name))
        if hasattr(self, name):
            return replace(self, **{name: value})
        sampler = replace(self.sampler, **{name: value})
        check_vocabulary(sampler, vocab_size)
        return replace(self, sampler=sampler)


def read_value(name: str, text: str, now: object) -> float | int | bool | None:
    """`text` as a value of the kind that the setting has `now`.

    >>> read_value("top_k", "off", 40) is None, read_value("seed", "7", 0)
    (True, 7)
    """
    if isinstance(now, bool):
        if text.casefold() not in SWITCHES:
            raise LessonsError(f"{name} = {text!r} is not on or off")
        return SWITCHES[text.casefold()]
    if name == "top_k" and text.casefold() in ("off", "none"):
        return None
    whole = name == "top_k" or isinstance(now, int)
    try:
        return int(text) if whole else float(text)
    except ValueError:
        kind = "a whole number" if whole else "a number"
        raise LessonsError(
            f"{name} = {text!r} is not {kind}", remedy=f"{SETTINGS[name]}."
        ) from None
