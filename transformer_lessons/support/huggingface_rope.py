"""RoPE's scaling in Hugging Face's words, and back."""

from typing import Any

from transformer_lessons.config import ModelConfig, RopeScaling, config_from_dict
from transformer_lessons.errors import LessonsError

ORIGINAL = "original_max_position_embeddings"
FACTOR = {"factor": "factor"}
LENGTH = FACTOR | {ORIGINAL: "original_context_length"}
# For each kind: their word for each of our fields. (For "dynamic", the trained length is
# max_position_embeddings.) Source: transformers 5.23, modeling_rope_utils.py.
SCALINGS = {
    "linear": FACTOR,
    "dynamic": FACTOR,
    "llama3": LENGTH | {"low_freq_factor": "beta_slow", "high_freq_factor": "beta_fast"},
    "yarn": LENGTH | {word: word for word in ("beta_slow", "beta_fast", "attention_factor")},
}


def read_rope(document: dict[str, Any], where: str) -> dict[str, Any]:
    """The fields of a `ModelConfig` about RoPE, from either spelling in a `config.json`.

    New files have rope_parameters = {"rope_type": …, "rope_theta": …, …}; older ones have
    rope_theta, and rope_scaling = {"type": …, …} or {"rope_type": …, …}.

    >>> old = {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}
    >>> new = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}}
    >>> read_rope(old, "a") == read_rope(new, "b")
    True
    """
    parameters = document.get("rope_scaling") or document.get("rope_parameters") or {}
    if not isinstance(parameters, dict):
        raise LessonsError("not a JSON object", where=where)
    parameters = {name: value for name, value in parameters.items() if value is not None}
    base = parameters.pop("rope_theta", document.get("rope_theta", 10_000.0))
    kind = parameters.pop("rope_type", parameters.get("type", "default"))
    parameters.pop("type", None)
    parameters.pop("finetuned", None)  # whether it was trained so: nothing follows
    if parameters.pop("partial_rotary_factor", 1) != 1:
        raise LessonsError("RoPE on a part of each head only is not in this decoder", where=where)
    if kind == "default":
        if unknown := sorted(parameters):
            raise LessonsError(f"{unknown[0][:40]!r} belongs to no scaling", where=where)
        return {"rope_theta": base}
    return {"rope_theta": base} | _read_scaling(kind, parameters, document, where)


def _read_scaling(
    kind: Any, parameters: dict[str, Any], document: dict[str, Any], where: str
) -> dict[str, Any]:
    """`rope_scaling`, and for "dynamic" the `context_length`, which grows with it."""
    if not isinstance(kind, str) or kind not in SCALINGS:
        what = f"RoPE of the type {str(kind)[:40]!r} is not in this decoder"
        raise LessonsError(what, where=where, remedy=f"Known: default, {', '.join(SCALINGS)}.")
    length, fields = document.get("max_position_embeddings"), SCALINGS[kind]
    values = {"kind": kind} | {fields[w]: v for w, v in parameters.items() if w in fields}
    for word, value in parameters.items():
        is_default = (word, value) == ("truncate", True) or (word, value) == (ORIGINAL, length)
        if word not in fields and not is_default:
            what = f"{word[:40]!r} = {str(value)[:40]} is not a part of {kind} that is known"
            raise LessonsError(what, where=where)
    if kind == "llama3" and not {"low_freq_factor", "high_freq_factor"} <= parameters.keys():
        raise LessonsError("llama3 needs low_freq_factor and high_freq_factor", where=where)
    if kind != "linear":
        values.setdefault("original_context_length", length)
    scaling = config_from_dict(RopeScaling, values, where)
    if kind == "dynamic":
        return {"rope_scaling": scaling, "context_length": int(scaling.factor * length)}
    return {"rope_scaling": scaling}


def write_rope(config: ModelConfig) -> dict[str, Any]:
    """The inverse of `read_rope`, in the new spelling, with `max_position_embeddings`.

    >>> from transformer_lessons.presets import preset
    >>> write_rope(preset("smollm2-135m"))["rope_parameters"]
    {'rope_type': 'default', 'rope_theta': 100000.0}
    """
    scaling, length = config.rope_scaling, config.context_length
    parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if scaling is None:
        return {"max_position_embeddings": length, "rope_parameters": parameters}
    if scaling.kind == "dynamic":
        length = scaling.original_context_length or 0  # which dynamic scaling always has
        if int(scaling.factor * length) != config.context_length:
            what = f"context_length = {config.context_length} with dynamic scaling"
            remedy = f"Make it factor * original_context_length, {int(scaling.factor * length)}."
            raise LessonsError(what, where="ModelConfig.context_length", remedy=remedy)
    fields = {word: getattr(scaling, ours) for word, ours in SCALINGS[scaling.kind].items()}
    if scaling.kind == "llama3" and scaling.beta_fast is None:
        fields["high_freq_factor"] = 4.0
    parameters |= {"rope_type": scaling.kind}
    parameters |= {word: value for word, value in fields.items() if value is not None}
    return {"max_position_embeddings": length, "rope_parameters": parameters}
