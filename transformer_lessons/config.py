"""What a model is: its sizes and choices, validated once, and written as plain JSON.

Every size has the name the field uses. Values that follow from others (the width of a head, say)
are properties, so that `dataclasses.replace` can change one field and the rest follow.
"""

import math
import sys
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from transformer_lessons.errors import LessonsError

SIZES = ("vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff")
CHOICES = {
    "position": ("rope", "learned", "sinusoidal", "none"),
    "norm": ("layer", "rms"),
    "norm_placement": ("pre", "post"),
    "ffn": ("relu", "gelu", "swiglu"),
}
SWITCHES = (
    *("adaptive_norm", "bias", "head_bias", "qk_norm"),
    *("tie_embeddings", "scale_embeddings"),
)


class HeadSizes(NamedTuple):
    """How attention is divided: H query heads, K heads of keys and values, d numbers in each."""

    n_heads: int
    n_kv_heads: int
    head_dim: int


@dataclass(frozen=True)
class RopeScaling:
    """How RoPE is slowed down for texts longer than those a model was first trained on.

    `rope_frequencies` in `model.rope_scaling` computes each kind, and cites its source.

    >>> RopeScaling("linear", factor=4.0).kind
    'linear'
    """

    kind: str  # linear, dynamic, llama3 or yarn
    factor: float  # how many times longer the texts may become
    original_context_length: int | None = None  # trained length; linear scaling doesn't need it
    beta_slow: float = 1.0  # llama3, yarn: pairs that turn less often are slowed by `factor`
    beta_fast: float | None = None  # those that turn more often are not; None: 4 llama3, 32 yarn
    attention_factor: float | None = None  # yarn: size of turned q and k; None: 0.1 ln(factor) + 1

    def __post_init__(self) -> None:
        check_rope_scaling(self)


@dataclass(frozen=True)
class ModelConfig:
    """The sizes and choices that define a decoder-only transformer; impossible ones raise.

    >>> config = ModelConfig(256, context_length=16, d_model=4, n_layers=2, n_heads=2, d_ff=8)
    >>> config.heads.head_dim
    2
    """

    vocab_size: int  # V: how many different tokens there are
    context_length: int  # the most tokens the model can look at
    d_model: int  # D: numbers per token
    n_layers: int  # how many blocks
    n_heads: int  # H: attention heads per block
    d_ff: int  # F: hidden numbers per token in the feed-forward layer
    n_kv_heads: int | None = None  # K: heads of keys and values; None: as many as queries
    head_dim: int | None = None  # d: numbers per token in a head; None: d_model / n_heads
    position: str = "rope"  # rope, learned, sinusoidal or none
    rope_theta: float = 10_000.0  # the slowest pair of numbers turns about 1/base per token
    rope_scaling: RopeScaling | None = None  # slower turns, for longer texts
    rope_v_scale: float = 0.0  # 0: values stay put; 1: values are turned like queries and keys
    norm: str = "layer"  # layer or rms
    norm_eps: float = 1e-5  # keeps the division in a norm away from zero
    norm_placement: str = "pre"  # pre: before each layer; post: after each sum
    adaptive_norm: bool = False  # True: norms fade out as d_model shrinks from 32 to 4
    ffn: str = "relu"  # relu, gelu or swiglu
    bias: bool = True  # a bias in every linear layer of the blocks
    qkv_bias: bool | None = None  # None: as `bias`
    head_bias: bool = True  # a bias in the output head
    qk_norm: bool = False  # True: queries and keys are normalized before they are turned
    tie_embeddings: bool = False  # True: the head's matrix is the embedding's
    scale_embeddings: bool = False  # True: the embedding is multiplied by sqrt(d_model)
    sliding_window: int | None = None  # a token sees itself and window - 1 before it; None: all
    dropout: float = 0.0  # share of numbers silenced at random while training, times size_scale

    @property
    def heads(self) -> HeadSizes:
        """The three sizes of attention, with those that were left out filled in."""
        head_dim = self.head_dim or self.d_model // self.n_heads
        return HeadSizes(self.n_heads, self.n_kv_heads or self.n_heads, head_dim)

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
        if isinstance(values, dict) and isinstance(values.get("rope_scaling"), dict):
            place = f"{where}, rope_scaling"
            scaling = config_from_dict(RopeScaling, values["rope_scaling"], place)
            values = values | {"rope_scaling": scaling}
        return config_from_dict(cls, values, where)


def check_model_config(config: ModelConfig) -> None:
    """Raise `LessonsError` for the first impossible value, with field, value and range."""
    for name in SIZES:
        check_field(config, name, int, "an integer of at least 1", lambda v: v >= 1)
    for name in ("n_kv_heads", "head_dim", "sliding_window"):
        if getattr(config, name) is not None:
            check_field(config, name, int, "null or an integer of at least 1", lambda v: v >= 1)
    for name, choices in CHOICES.items():
        check_field(config, name, str, f"one of {', '.join(choices)}", lambda v, c=choices: v in c)
    for name in SWITCHES:
        check_field(config, name, bool, "true or false", lambda v: True)
    if config.qkv_bias is not None:
        check_field(config, "qkv_bias", bool, "null, true or false", lambda v: True)
    check_field(config, "rope_theta", float, "above 1 and finite", lambda v: 1 < v < math.inf)
    check_field(config, "rope_v_scale", float, "from 0 to 1", lambda v: 0 <= v <= 1)
    check_field(config, "norm_eps", float, "above 0, at most 0.1", lambda v: 0 < v <= 0.1)
    check_field(config, "dropout", float, "from 0 to below 1", lambda v: 0 <= v < 1)
    if config.rope_scaling is not None:
        check_field(config, "rope_scaling", RopeScaling, "null or a RopeScaling", lambda v: True)
    check_heads(config)
    for name in ("rope_scaling", "rope_v_scale"):
        if config.position != "rope" and getattr(config, name):
            what = f"{name} needs position = 'rope', not {config.position!r}"
            raise LessonsError(what, where=f"ModelConfig.{name}")


def check_heads(config: ModelConfig) -> None:
    """Raise `LessonsError` unless d_model, the heads and their width fit together."""
    d_model, n_heads, n_kv_heads = config.d_model, config.n_heads, config.n_kv_heads
    even = " of even width" if config.position == "rope" else ""
    if config.head_dim is None and d_model % (n_heads * (2 if even else 1)) != 0:
        what = f"d_model = {d_model} can't be cut into {n_heads} heads{even}"
        remedy = f"Use a multiple of {n_heads}, or set head_dim."
        if even:
            remedy = (
                f"RoPE turns pairs of numbers: use a multiple of {2 * n_heads}, or set head_dim."
            )
        raise LessonsError(what, where="ModelConfig.d_model", remedy=remedy)
    if even and config.heads.head_dim % 2 != 0:
        what, remedy = f"head_dim = {config.head_dim} is odd", "RoPE turns pairs of numbers."
        raise LessonsError(what, where="ModelConfig.head_dim", remedy=remedy)
    if n_kv_heads is not None and n_heads % n_kv_heads != 0:
        what = f"{n_heads} query heads can't share {n_kv_heads} key and value heads evenly"
        remedy = f"Use a divisor of {n_heads}."
        raise LessonsError(what, where="ModelConfig.n_kv_heads", remedy=remedy)
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "dynamic" and config.heads.head_dim == 2:
        what, remedy = "dynamic scaling of heads of width 2", "Use wider heads."
        raise LessonsError(what, where="ModelConfig.rope_scaling", remedy=remedy)
    if config.position == "sinusoidal" and d_model % 2 != 0:
        what, remedy = f"d_model = {d_model} is odd", "Sinusoidal positions come in pairs."
        raise LessonsError(what, where="ModelConfig.d_model", remedy=remedy)


def check_rope_scaling(scaling: RopeScaling) -> None:
    """Raise `LessonsError` for the first impossible value, with field, value and range."""
    kinds = ("linear", "dynamic", "llama3", "yarn")
    check_field(scaling, "kind", str, f"one of {', '.join(kinds)}", lambda v: v in kinds)
    check_field(scaling, "factor", float, "from 1, and finite", lambda v: 1 <= v < math.inf)
    if scaling.kind != "linear":
        allowed = f"an integer of at least 1, which {scaling.kind} scaling needs"
        check_field(scaling, "original_context_length", int, allowed, lambda v: v >= 1)
    allowed = "above 0, and finite"
    check_field(scaling, "beta_slow", float, allowed, lambda v: 0 < v < math.inf)
    if scaling.beta_fast is not None:
        least = scaling.beta_slow
        above = f"above beta_slow = {least}, and finite"
        check_field(scaling, "beta_fast", float, above, lambda v: least < v < math.inf)
    if scaling.attention_factor is not None:
        check_field(scaling, "attention_factor", float, allowed, lambda v: 0 < v < math.inf)


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


def check_field(config: Any, name: str, kind: type, allowed: str, is_ok) -> None:
    value = getattr(config, name)
    # bool is a subclass of int in Python; `d_model=True` is a mistake all the same.
    right_kind = isinstance(value, (int, float) if kind is float else kind)
    right_kind = right_kind and (kind is bool or not isinstance(value, bool))
    if kind is float and right_kind:  # an int can be larger than any float
        right_kind = abs(value) <= sys.float_info.max
    if not right_kind or not is_ok(value):
        where = f"{type(config).__name__}.{name}"
        raise LessonsError(f"{name} = {value!r} is not {allowed}", where=where)
