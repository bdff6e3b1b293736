"""How documents are prepared: every choice on the way from files to splits. Lesson 4."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from transformer_lessons.config import (
    Allowed,
    BelowOne,
    Seed,
    check_fields,
    config_from_dict,
    one_of,
)
from transformer_lessons.data.cleaning import STEPS, _check_steps
from transformer_lessons.data.quality import QualityLimits
from transformer_lessons.errors import LessonsError

Steps = Annotated[
    tuple[str, ...], Allowed("a list of cleaning steps", lambda v: all(type(s) is str for s in v))
]
Duplicates = Annotated[str, one_of("near", "exact", "keep")]
# Banding finds few pairs below 0.7; a lower threshold would promise what it can't keep.
Similarity = Annotated[float, Allowed("from 0.7 to 1", lambda v: 0.7 <= v <= 1)]


@dataclass(frozen=True)
class DataConfig:
    """The choices of `prepare`. Impossible values raise `LessonsError`, naming the field."""

    cleaning: Steps = tuple(STEPS)  # the steps of `clean` that are taken
    quality: QualityLimits = field(default_factory=QualityLimits)
    duplicates: Duplicates = "near"  # near: near and exact ones go; exact: only those; keep
    similarity: Similarity = 0.8  # share of common shingles that makes texts near duplicates
    validation: BelowOne = 0.05  # share of the documents for validation
    test: BelowOne = 0.05  # share of the documents for testing; the rest is trained on
    seed: Seed = 0  # of the split

    def __post_init__(self) -> None:
        check_fields(self)
        _check_steps(self.cleaning, where="DataConfig.cleaning")
        if self.validation + self.test >= 1:
            shares = f"validation = {self.validation} and test = {self.test}"
            what, remedy = f"{shares} leave nothing to train on", "Their sum is below 1."
            raise LessonsError(what, where="DataConfig.test", remedy=remedy)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values; `DataConfig.from_dict` reads them back."""
        return asdict(self) | {"cleaning": list(self.cleaning)}

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "DataConfig") -> "DataConfig":
        """The inverse of `to_dict`; unknown keys raise `LessonsError`."""
        if isinstance(values, dict) and isinstance(values.get("cleaning"), list):
            values = values | {"cleaning": tuple(values["cleaning"])}
        if isinstance(values, dict) and isinstance(values.get("quality"), dict):
            limits = config_from_dict(QualityLimits, values["quality"], f"{where}, quality")
            values = values | {"quality": limits}
        return config_from_dict(cls, values, where)
