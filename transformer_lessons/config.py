"""What a model is: its sizes and choices, validated once, and written as plain JSON.

Every size has the name the field uses. Values that follow from others (the width of a head, say)
are properties, so that `dataclasses.replace` can change one field and the rest follow.
"""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from transformer_lessons.errors import LessonsError


@dataclass(frozen=True)
class ModelConfig:
    """The sizes and choices that define a decoder-only transformer; impossible ones raise.

    >>> config = ModelConfig(256, context_length=16, d_model=4, n_layers=2, n_heads=2, d_ff=8)
    >>> config.d_head
    2
    """

    vocab_size: int  # V: how many different tokens there are
    context_length: int  # the most tokens the model can look at
    d_model: int  # D: numbers per token
    n_layers: int  # how many blocks
    n_heads: int  # H: attention heads per block
    d_ff: int  # F: hidden numbers per token in the feed-forward layer
    rope_base: float = 10_000.0  # the slowest pair of numbers turns about 1/base per token
    rope_v_scale: float = 0.0  # 0: values stay put; 1: values are turned like queries and keys
    norm_eps: float = 1e-5  # keeps the division in a norm away from zero
    adaptive_norm: bool = False  # True: norms fade out as d_model shrinks from 32 to 4
    dropout: float = 0.0  # share of numbers silenced at random while training, times size_scale

    @property
    def d_head(self) -> int:
        """d: numbers per token in one attention head."""
        return self.d_model // self.n_heads

    @property
    def size_scale(self) -> float:
        """clamp((d_model - 4) / 28, 0, 1): 0 for the tiniest models, 1 from d_model = 32 on.

        It fades out what a model of four numbers per token can't afford: norms and dropout.
        """
        return min(max((self.d_model - 4) / 28, 0.0), 1.0)

    def __post_init__(self) -> None:
        check_model_config(self)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values; `ModelConfig.from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "ModelConfig") -> "ModelConfig":
        """The inverse of `to_dict`; unknown and missing keys raise `LessonsError`."""
        return config_from_dict(cls, values, where)


def check_model_config(config: ModelConfig) -> None:
    """Raise `LessonsError` for the first impossible value, with field, value and range."""
    for name in ("vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff"):
        check_field(config, name, int, "an integer of at least 1", lambda v: v >= 1)
    check_field(config, "rope_base", float, "above 1 and finite", lambda v: 1 < v < math.inf)
    check_field(config, "rope_v_scale", float, "from 0 to 1", lambda v: 0 <= v <= 1)
    check_field(config, "norm_eps", float, "above 0, at most 0.1", lambda v: 0 < v <= 0.1)
    check_field(config, "adaptive_norm", bool, "true or false", lambda v: True)
    check_field(config, "dropout", float, "from 0 to below 1", lambda v: 0 <= v < 1)
    if config.d_model % (2 * config.n_heads) != 0:
        what = f"d_model = {config.d_model} can't be cut into {config.n_heads} heads of even width"
        remedy = f"RoPE turns pairs of numbers: use a multiple of {2 * config.n_heads}."
        raise LessonsError(what, where="ModelConfig.d_model", remedy=remedy)


def preset(name: str) -> ModelConfig:
    """A named model: `fluctlight` (2,656 parameters) or `bytes-1m` (about a million).

    >>> preset("fluctlight").d_model
    4
    """
    presets = {
        "fluctlight": ModelConfig(
            vocab_size=256,
            context_length=16,
            d_model=4,
            n_layers=2,
            n_heads=2,
            d_ff=8,
            adaptive_norm=True,
        ),
        "bytes-1m": ModelConfig(
            vocab_size=256,
            context_length=128,
            d_model=128,
            n_layers=4,
            n_heads=4,
            d_ff=512,
        ),
    }
    if name not in presets:
        known = ", ".join(sorted(presets))
        raise LessonsError(f"unknown preset {name!r}", remedy=f"Known presets: {known}.")
    return presets[name]


def config_from_dict(cls: type, values: dict[str, Any], where: str) -> Any:
    """Build the config dataclass `cls` from `values`, refusing keys that it doesn't know.

    >>> config_from_dict(ModelConfig, {"d_modle": 4}, where="config.json")
    Traceback (most recent call last):
    transformer_lessons.errors.LessonsError: unknown key 'd_modle' (config.json). Known keys: ...
    """
    if not isinstance(values, dict):
        raise LessonsError("a config must be a JSON object", where=where)
    known = [field.name for field in fields(cls)]
    for key in values:
        if key not in known:
            remedy = f"Known keys: {', '.join(known)}."
            raise LessonsError(f"unknown key {key!r}", where=where, remedy=remedy)
    try:
        return cls(**values)
    except LessonsError as error:  # an impossible value: name the file as well as the field
        place = error.where if where == cls.__name__ else f"{where}, {error.where}"
        raise LessonsError(error.what, where=place, remedy=error.remedy) from None
    except TypeError as error:  # a field without a default is missing
        raise LessonsError(str(error).split(") ")[-1], where=where) from None


def read_json(path: Path | str) -> Any:
    """The contents of a JSON file; a missing or malformed file raises `LessonsError`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise LessonsError(f"can't read it: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError:
        raise LessonsError("not UTF-8 text", where=str(path)) from None
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}, column {error.colno}"
        raise LessonsError(f"not JSON: {error.msg}", where=place) from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise LessonsError(f"not JSON that can be read: {error}", where=str(path)) from None


def check_field(config: Any, name: str, kind: type, allowed: str, is_ok) -> None:
    value = getattr(config, name)
    # bool is a subclass of int in Python; `d_model=True` is a mistake all the same.
    right_kind = isinstance(value, (int, float) if kind is float else kind)
    right_kind = right_kind and (kind is bool or not isinstance(value, bool))
    if not right_kind or not is_ok(value):
        where = f"{type(config).__name__}.{name}"
        raise LessonsError(f"{name} = {value!r} is not {allowed}", where=where)
