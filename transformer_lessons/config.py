"""What a model is: its sizes and choices, checked once, written as plain JSON. Lessons 6 and 10.

Every size has the name the field uses. Values that follow from others (the width of a head, say)
are properties, so that `dataclasses.replace` can change one field and the rest follow.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from transformer_lessons.errors import LessonsError


@dataclass(frozen=True)
class Allowed:
    """The values that a config field allows: part of its annotation, read by `check_fields`.

    >>> Percentage = Annotated[float, Allowed("from 0 to 100", lambda v: 0 <= v <= 100)]
    """

    words: str  # how an error message ends: "dropout = 2 is not from 0 to below 1"
    is_ok: Callable[[Any], bool]  # called with values of the right type only


def one_of(*choices: str) -> Allowed:
    """The rule of a field that holds one of some words."""
    return Allowed(f"one of {', '.join(choices)}", lambda value: value in choices)


Count = Annotated[int, Allowed("an integer of at least 1", lambda v: v >= 1)]
CountOrZero = Annotated[int, Allowed("an integer of at least 0", lambda v: v >= 0)]
Seed = Annotated[int, Allowed("an integer from 0 to 2**63 - 1", lambda v: 0 <= v < 2**63)]
Fraction = Annotated[float, Allowed("from 0 to 1", lambda v: 0 <= v <= 1)]
BelowOne = Annotated[float, Allowed("from 0 to below 1", lambda v: 0 <= v < 1)]
Positive = Annotated[float, Allowed("above 0, and finite", lambda v: 0 < v < math.inf)]
NotNegative = Annotated[float, Allowed("0 or more, and finite", lambda v: 0 <= v < math.inf)]
AboveOne = Annotated[float, Allowed("above 1, and finite", lambda v: 1 < v < math.inf)]
OneOrMore = Annotated[float, Allowed("1 or more, and finite", lambda v: 1 <= v < math.inf)]
Tiny = Annotated[float, Allowed("above 0, at most 0.1", lambda v: 0 < v <= 0.1)]
ScalingKind = Annotated[str, one_of("linear", "dynamic", "llama3", "yarn")]
PositionKind = Annotated[str, one_of("rope", "learned", "sinusoidal", "none")]
NormKind = Annotated[str, one_of("layer", "rms")]
NormPlacement = Annotated[str, one_of("pre", "post")]
FeedForwardKind = Annotated[str, one_of("relu", "gelu", "swiglu")]


class HeadSizes(NamedTuple):
    """How attention is divided: H query heads, K heads of keys and values, d numbers in each."""

    n_heads: int
    n_kv_heads: int
    head_dim: int


@dataclass(frozen=True)
class RopeScaling:
    """How RoPE is slowed down for sequences longer than those a model was first trained on.

    `rope_frequencies` in `model.rope` computes each kind, and cites its source.

    >>> RopeScaling("linear", factor=4.0).kind
    'linear'
    """

    kind: ScalingKind  # linear, dynamic, llama3 or yarn
    factor: OneOrMore  # how many times longer the sequences may become
    original_context_length: Count | None = None  # trained length; linear scaling doesn't need it
    beta_slow: Positive = 1.0  # llama3, yarn: pairs with fewer turns are slowed by `factor`
    beta_fast: Positive | None = None  # those with more turns are not; None: 4 llama3, 32 yarn
    attention_factor: Positive | None = None  # yarn: size of q and k; None: 0.1 ln(factor) + 1

    def __post_init__(self) -> None:
        _check_rope_scaling(self)

    @property
    def trained_length(self) -> int:
        """`original_context_length`, which every kind but linear has."""
        assert self.original_context_length is not None, "linear scaling needs no trained length"
        return self.original_context_length


@dataclass(frozen=True)
class ModelConfig:
    """The sizes and choices that define a decoder-only transformer; impossible ones raise.

    >>> config = ModelConfig(256, context_length=16, d_model=4, n_layers=2, n_heads=2, d_ff=8)
    >>> config.heads.head_dim
    2
    """

    vocab_size: Count  # V: how many different tokens there are
    context_length: Count  # the most tokens the model can look at
    d_model: Count  # D: numbers per token
    n_layers: Count  # how many blocks
    n_heads: Count  # H: attention heads per block
    d_ff: Count  # F: hidden numbers per token in the feed-forward layer
    n_kv_heads: Count | None = None  # K: heads of keys and values; None: H. Fewer: GQA
    head_dim: Count | None = None  # d: numbers per token in a head; None: d_model / n_heads
    position: PositionKind = "rope"  # rope, learned, sinusoidal or none
    rope_theta: AboveOne = 10_000.0  # the slowest pair of numbers turns about 1/theta per token
    rope_scaling: RopeScaling | None = None  # slower turns, for longer sequences
    rope_v_scale: Fraction = 0.0  # 0: values stay put; 1: they are turned like queries and keys
    norm: NormKind = "layer"  # layer or rms
    norm_eps: Tiny = 1e-5  # keeps the division in a norm away from zero
    norm_placement: NormPlacement = "pre"  # pre: before each layer; post: after each sum
    adaptive_norm: bool = False  # True: norms fade out as d_model shrinks from 32 to 4
    ffn: FeedForwardKind = "relu"  # relu, gelu or swiglu
    bias: bool = True  # a bias in every linear layer of the blocks
    qkv_bias: bool | None = None  # None: as `bias`
    head_bias: bool = True  # a bias in the output head
    qk_norm: bool = False  # True: queries and keys are normalized before they are turned
    tie_embeddings: bool = False  # True: the head's matrix is the embedding's
    scale_embeddings: bool = False  # True: the embedding is multiplied by sqrt(d_model)
    sliding_window: Count | None = None  # a token sees itself and window - 1 before it; None: all
    dropout: BelowOne = 0.0  # share of numbers silenced at random while training, times size_scale

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
        _check_model_config(self)

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


def _check_model_config(config: ModelConfig) -> None:
    """Raise `LessonsError` for the first impossible value, with field, value and range."""
    check_fields(config)
    _check_heads(config)
    for name in ("rope_scaling", "rope_v_scale"):
        if config.position != "rope" and getattr(config, name):
            what = f"{name} needs position = 'rope', not {config.position!r}"
            raise LessonsError(what, where=f"ModelConfig.{name}")


def _check_heads(config: ModelConfig) -> None:
    """Raise `LessonsError` unless d_model, the heads and their width fit together."""
    d_model, n_heads, n_kv_heads = config.d_model, config.n_heads, config.n_kv_heads
    even = " of even width" if config.position == "rope" else ""
    step = n_heads * (2 if even else 1)
    if config.head_dim is None and d_model % step != 0:
        what = f"d_model = {d_model} can't be cut into {n_heads} heads{even}"
        use = "RoPE turns pairs of numbers: use" if even else "Use"
        remedy = f"{use} a multiple of {step}, or set head_dim."
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


def _check_rope_scaling(scaling: RopeScaling) -> None:
    """Raise `LessonsError` for the first impossible value, with field, value and range."""
    check_fields(scaling)
    if scaling.kind != "linear" and scaling.original_context_length is None:
        what = f"{scaling.kind} scaling needs original_context_length, the trained length"
        raise LessonsError(what, where="RopeScaling.original_context_length")
    if scaling.beta_fast is not None and scaling.beta_fast <= scaling.beta_slow:
        what = f"beta_fast = {scaling.beta_fast!r} is not above beta_slow = {scaling.beta_slow}"
        raise LessonsError(what, where="RopeScaling.beta_fast")


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


def check_fields(config: Any) -> None:
    """Raise `LessonsError` for the first field of a config dataclass that its annotation forbids.

    An annotation is a type, optional (`| None`) or not, with a rule (`Allowed`) or without.

    >>> check_fields(ModelConfig(256, 16, d_model=4, n_layers=2, n_heads=2, d_ff=8))
    """
    for name, declared in get_type_hints(type(config), include_extras=True).items():
        value, null = getattr(config, name), ""
        if isinstance(declared, UnionType) or get_origin(declared) is Union:
            if value is None:
                continue
            (declared,) = [part for part in get_args(declared) if part is not NoneType]
            null = "null, " if declared is bool else "null or "
        kind, *rules = get_args(declared) if get_origin(declared) is Annotated else (declared,)
        if not _is_a(kind, value) or not all(rule.is_ok(value) for rule in rules):
            words = "true or false" if kind is bool else f"a {kind.__name__}"
            what = f"{name} = {value!r} is not {null}{rules[0].words if rules else words}"
            raise LessonsError(what, where=f"{type(config).__name__}.{name}")


def _is_a(kind: Any, value: Any) -> bool:
    """Whether a value read from JSON or from the command line can stand for a `kind`."""
    # bool is a subclass of int in Python; `d_model=True` is a mistake all the same.
    if isinstance(value, bool) and kind is not bool:
        return False
    if kind is float:  # an int will do, if it isn't larger than any float
        return isinstance(value, int | float) and not abs(value) > sys.float_info.max
    return isinstance(value, get_origin(kind) or kind)
