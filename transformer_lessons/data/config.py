"""How documents are prepared: every choice on the way from files to splits. Lesson 4."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from transformer_lessons.config import (
    Allowed,
    BelowOne,
    Count,
    Fraction,
    Seed,
    check_fields,
    config_from_dict,
    one_of,
)
from transformer_lessons.errors import LessonsError

# Banding finds few pairs below 0.7; a lower threshold would promise what it can't keep.
Similarity = Annotated[float, Allowed("from 0.7 to 1", lambda v: 0.7 <= v <= 1)]


@dataclass(frozen=True)
class DataConfig:
    """The choices of `prepare`. Impossible values raise `LessonsError`, naming the field."""

    cleaning: bool = True  # whether `clean` comes first
    min_characters: Count = 100  # a shorter text is dropped
    min_letters: Fraction = 0.5  # least share of letters and digits in what is not white space
    min_compressed: Fraction = 0.1  # least size after compression, as a share of the text's
    duplicates: Annotated[str, one_of("near", "exact", "keep")] = "near"  # what is dropped
    similarity: Similarity = 0.8  # share of common shingles that makes texts near duplicates
    validation: BelowOne = 0.05  # share of the documents for validation
    test: BelowOne = 0.05  # share of the documents for testing; the rest is trained on
    seed: Seed = 0  # of the split

    def __post_init__(self) -> None:
        check_fields(self)
        if self.validation + self.test >= 1:
            shares = f"validation = {self.validation} and test = {self.test}"
            what, remedy = f"{shares} leave nothing to train on", "Their sum is below 1."
            raise LessonsError(what, where="DataConfig.test", remedy=remedy)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values; `DataConfig.from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "DataConfig") -> "DataConfig":
        """The inverse of `to_dict`; unknown keys raise `LessonsError`."""
        return config_from_dict(cls, values, where)
