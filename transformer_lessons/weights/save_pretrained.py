"""A model of the book as a Hugging Face folder, which `transformers` opens. Lesson 20."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.state_dict import own_tensors
from transformer_lessons.support.huggingface_config import GPT2_WORDS, LLAMA_WORDS
from transformer_lessons.support.huggingface_rope import write_rope
from transformer_lessons.support.output_folder import unfinished_folder
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tiktoken_tokenizer import TiktokenTokenizer
from transformer_lessons.tokenizers.tokenizer import Tokenizer
from transformer_lessons.weights.assemble import _qkv_widths
from transformer_lessons.weights.name_maps import gpt2_names, llama_names

# The first that can express a model is taken. Each says what it can be, field by field; fields that
# are not here are sizes, which all families have.
# fmt: off
EVERY: dict[str, tuple] = {
    "norm_placement": ("pre",), "head_bias": (False,), "scale_embeddings": (False,),
}
ROPE = EVERY | {"position": ("rope",), "norm": ("rms",), "ffn": ("swiglu",), "rope_v_scale": (0,)}
FAMILIES = {
    "llama": ROPE | {"qk_norm": (False,), "sliding_window": (None,), "bias": (False, True)},
    "mistral": ROPE | {"qk_norm": (False,), "bias": (False,)},
    "qwen2": ROPE | {"qk_norm": (False,), "bias": (False,)},
    "qwen3": ROPE | {"qk_norm": (True,), "bias": (False,)},
    "gpt2": EVERY | {
        "position": ("learned",), "norm": ("layer",), "ffn": ("gelu", "relu"), "bias": (True,),
        "qk_norm": (False,), "sliding_window": (None,),
    },
}
# fmt: on


def save_pretrained(model: Decoder, tokenizer: Tokenizer | None, folder: Path | str) -> None:
    """Write `model` and `tokenizer` to `folder`, which `transformers` and `load_pretrained` open.

    The family is the first of llama, mistral, qwen2, qwen3 and gpt2 that can be what the model is;
    a config that none of them can express raises `LessonsError` and names the field. `folder` must
    be new or empty; it is complete at the end, or empty. Dropout isn't kept. The tokenizer is
    written as byte-level BPE; it must have no more tokens than the model knows.

    >>> import tempfile
    >>> from transformer_lessons.weights.shipped import load_shipped
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(*load_shipped(), folder)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
    """
    family, document = config_to_huggingface(model.config)
    if tokenizer is not None and tokenizer.n_vocab > model.config.vocab_size:
        what = f"the tokenizer has ids up to {tokenizer.n_vocab - 1}"
        remedy = f"The model knows {model.config.vocab_size:,} tokens."
        raise LessonsError(what, where="tokenizer", remedy=remedy)
    tensors = huggingface_tensors(model, family)
    names = ["model.safetensors", "config.json"]  # the last one says that all are there
    if tokenizer is not None:
        names = ["tokenizer.json", "tokenizer_config.json", *names]
    document["dtype"] = str(tensors[next(iter(tensors))].dtype).removeprefix("torch.")
    with unfinished_folder(Path(folder), names) as unfinished:
        if tokenizer is not None:
            _as_bpe(tokenizer).to_huggingface(unfinished / "tokenizer.json")
            facts = {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": model.config.context_length,
                "clean_up_tokenization_spaces": False,  # decode gives the text that was encoded
            }
            _write_json(unfinished / "tokenizer_config.json", facts)
        try:
            save_file(tensors, unfinished / "model.safetensors", metadata={"format": "pt"})
        except SafetensorError as error:
            raise LessonsError(f"can't write the tensors: {error}", where=str(folder)) from None
        _write_json(unfinished / "config.json", document)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def config_to_huggingface(config: ModelConfig) -> tuple[str, dict[str, Any]]:
    """The family that can express `config`, and its `config.json`.

    >>> from transformer_lessons.presets import preset
    >>> family, document = config_to_huggingface(preset("llama3.2-1b"))
    >>> family, document["rope_parameters"]["factor"]
    ('llama', 32.0)
    """
    family = family_of(config)
    words = GPT2_WORDS if family == "gpt2" else LLAMA_WORDS
    name = "GPT2LMHeadModel" if family == "gpt2" else f"{family.capitalize()}ForCausalLM"
    document: dict[str, Any] = {"model_type": family, "architectures": [name]}
    document |= {theirs: getattr(config, ours) for theirs, ours in words.items()}
    document |= {"bos_token_id": None, "eos_token_id": None}  # unknown here; not the family's own
    if family == "gpt2":
        activation = {"gelu": "gelu_new", "relu": "relu"}[config.ffn]
        return family, document | {"activation_function": activation}
    document |= {"num_key_value_heads": config.heads.n_kv_heads, "head_dim": config.heads.head_dim}
    document |= {"hidden_act": "silu"} | write_rope(config)
    if family == "llama":
        document |= {"attention_bias": config.bias, "mlp_bias": config.bias}
    else:
        document |= {"sliding_window": config.sliding_window}
    if family.startswith("qwen"):  # in all blocks, or in none
        is_used = config.sliding_window is not None
        kind = "sliding_attention" if is_used else "full_attention"
        document |= {"use_sliding_window": is_used, "layer_types": [kind] * config.n_layers}
        document |= {"max_window_layers": 0 if is_used else config.n_layers}
    return family, document


def family_of(config: ModelConfig) -> str:
    """The first family that can express `config`; `LessonsError` naming a field if none can.

    >>> from transformer_lessons.presets import preset
    >>> [family_of(preset(name)) for name in ("gpt2", "python-small")]
    ['gpt2', 'llama']
    """
    misfits = {family: _misfits(config, family) for family in FAMILIES}
    for family, fields in misfits.items():
        if not fields:
            return family
    nearest = min(misfits, key=lambda family: len(misfits[family]))
    field, allowed = next(iter(misfits[nearest].items()))
    what = f"{field} = {getattr(config, field)!r} is not what any family can be"
    remedy = f"The nearest is {nearest}, which has {' or '.join(map(repr, allowed))}."
    raise LessonsError(what, where=f"ModelConfig.{field}", remedy=remedy)


def _misfits(config: ModelConfig, family: str) -> dict[str, tuple]:
    """The fields of `config` that `family` can't express, with what it can."""
    qkv_bias = config.bias if config.qkv_bias is None else config.qkv_bias
    allowed = FAMILIES[family]
    fields = {name: some for name, some in allowed.items() if getattr(config, name) not in some}
    if qkv_bias != (config.bias or family == "qwen2"):
        fields["qkv_bias"] = (not qkv_bias,)
    if config.adaptive_norm and config.size_scale < 1:
        fields["adaptive_norm"] = (False,)
    if family == "gpt2":
        if config.heads.n_kv_heads != config.n_heads:
            fields["n_kv_heads"] = (None,)
        if config.n_heads * config.heads.head_dim != config.d_model:
            fields["head_dim"] = (None,)
    if family == "llama" and config.d_model % config.n_heads != 0:
        fields["d_model"] = (config.n_heads * config.heads.head_dim,)  # transformers refuses it
    return fields


def huggingface_tensors(model: Decoder, family: str) -> dict[str, Tensor]:
    """The tensors of `model` under the family's names: the name map, read from right to left."""
    names = gpt2_names(model.config) if family == "gpt2" else llama_names(model.config)
    ours, widths = own_tensors(model), _qkv_widths(model.config)
    theirs = {}
    for name, sources in names.items():
        parts = [ours[name]] if len(sources) == 1 else ours[name].split(widths)
        for source, part in zip(sources, parts, strict=True):
            part = part if source.change is None else source.change(part)  # t undoes itself
            theirs[source.name] = part.contiguous()
    return theirs


def _as_bpe(tokenizer: Tokenizer) -> BPETokenizer:
    """The same tokens and ids as byte-pair encoding; bytes are that without merges."""
    if isinstance(tokenizer, TiktokenTokenizer):
        return BPETokenizer.from_tiktoken(tokenizer.encoding)
    if isinstance(tokenizer, ByteTokenizer):
        return BPETokenizer({byte: bytes([byte]) for byte in range(256)}, [])
    if not isinstance(tokenizer, BPETokenizer):
        what = f"a {type(tokenizer).__name__} can't be written as a tokenizer.json"
        raise LessonsError(what, where="tokenizer", remedy="Pass None, and save it by itself.")
    return tokenizer
