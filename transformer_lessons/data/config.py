"""How documents are prepared: every choice on the way from files to the splits."""

from dataclasses import asdict, dataclass, field
from typing import Any

from transformer_lessons.config import check_field, config_from_dict
from transformer_lessons.data.cleaning import STEPS, check_steps
from transformer_lessons.data.quality import QualityLimits
from transformer_lessons.errors import LessonsError

DUPLICATES = ("near", "exact", "keep")


@dataclass(frozen=True)
class DataConfig:
    """The choices of `prepare`. Impossible values raise `LessonsError`, naming the field.

    >>> DataConfig(validation=0.1).test
    0.05
    """

    cleaning: tuple[str, ...] = tuple(STEPS)  # the steps of `clean` that are taken
    quality: QualityLimits = field(default_factory=QualityLimits)
    duplicates: str = "near"  # near: near and exact ones are dropped; exact: only those; keep
    similarity: float = 0.8  # from which share of common shingles on texts are near duplicates
    validation: float = 0.05  # share of the documents for validation
    test: float = 0.05  # share of the documents for testing; the rest is trained on
    seed: int = 0  # of the split

    def __post_init__(self) -> None:
        allowed = "a list of cleaning steps"
        check_field(self, "cleaning", tuple, allowed, lambda v: all(type(s) is str for s in v))
        check_steps(self.cleaning, where="DataConfig.cleaning")
        check_field(self, "quality", QualityLimits, "a QualityLimits", lambda v: True)
        check_field(self, "duplicates", str, "near, exact or keep", lambda v: v in DUPLICATES)
        # Banding finds few pairs below 0.7; a lower threshold would promise what it can't keep.
        check_field(self, "similarity", float, "from 0.7 to 1", lambda v: 0.7 <= v <= 1)
        for name in ("validation", "test"):
            check_field(self, name, float, "from 0 to below 1", lambda v: 0 <= v < 1)
        if self.validation + self.test >= 1:
            what = (
                f"validation = {self.validation} and test = {self.test} leave nothing to train on"
            )
            raise LessonsError(what, where="DataConfig.test", remedy="Their sum is below 1.")
        check_field(self, "seed", int, "an integer from 0 to 2**63 - 1", lambda v: 0 <= v < 2**63)

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
