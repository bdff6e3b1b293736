"""A model of the book as a Hugging Face folder, which `transformers` opens. Lesson 20."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.state_dict import own_tensors
from transformer_lessons.support.files import new_folder, write_json
from transformer_lessons.support.huggingface_config import (
    GPT2_WORDS,
    LLAMA_WORDS,
    config_from_huggingface,
    plainest,
)
from transformer_lessons.support.huggingface_rope import write_rope
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.tokenizers.tiktoken_tokenizer import TiktokenTokenizer
from transformer_lessons.tokenizers.tokenizer import Tokenizer
from transformer_lessons.weights.assemble import _qkv_widths
from transformer_lessons.weights.name_maps import LLAMA, gpt2_names, map_names

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")  # the first that fits is taken


def save_pretrained(model: Decoder, tokenizer: Tokenizer | None, folder: Path | str) -> None:
    """Write `model` and `tokenizer` to `folder`, which `transformers` and `load_pretrained` open.

    The family is the first of llama, mistral, qwen2, qwen3 and gpt2 that can be what the model is;
    a config that none of them can express raises `LessonsError` and names the field. `folder` must
    be new or empty; it is complete at the end, or as it was. Dropout isn't kept. The tokenizer is
    written as byte-level BPE; it must have no more tokens than the model knows.

    >>> import tempfile
    >>> from transformer_lessons.weights.shipped import load_shipped
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(*load_shipped(), folder)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
    """
    family = family_of(model.config)
    document = config_to_huggingface(model.config, family)
    if tokenizer is not None and tokenizer.n_vocab > model.config.vocab_size:
        what = f"the tokenizer has ids up to {tokenizer.n_vocab - 1}"
        remedy = f"The model knows {model.config.vocab_size:,} tokens."
        raise LessonsError(what, where="tokenizer", remedy=remedy)
    tensors = huggingface_tensors(model, family)
    document["dtype"] = str(tensors[next(iter(tensors))].dtype).removeprefix("torch.")
    eos_ids = [] if tokenizer is None else list(tokenizer.eos_ids)
    document["eos_token_id"] = eos_ids[0] if len(eos_ids) == 1 else eos_ids or None
    with new_folder(Path(folder)) as unfinished:
        if tokenizer is not None:
            _as_bpe(tokenizer).to_huggingface(unfinished / "tokenizer.json")
            facts: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
            facts["model_max_length"] = model.config.context_length
            facts["clean_up_tokenization_spaces"] = False  # decode gives what was encoded
            write_json(unfinished / "tokenizer_config.json", facts, indent=2)
        try:
            save_file(tensors, unfinished / "model.safetensors", metadata={"format": "pt"})
        except SafetensorError as error:
            raise LessonsError(f"can't write the tensors: {error}", where=str(folder)) from None
        write_json(unfinished / "config.json", document, indent=2)


def config_to_huggingface(config: ModelConfig, family: str) -> dict[str, Any]:
    """The `config.json` of a model of a family.

    >>> from transformer_lessons.presets import preset
    >>> config_to_huggingface(preset("llama3.2-1b"), "llama")["rope_parameters"]["factor"]
    32.0
    """
    words = GPT2_WORDS if family == "gpt2" else LLAMA_WORDS
    name = "GPT2LMHeadModel" if family == "gpt2" else f"{family.capitalize()}ForCausalLM"
    document: dict[str, Any] = {"model_type": family, "architectures": [name]}
    document |= {theirs: getattr(config, ours) for theirs, ours in words.items()}
    document |= {"bos_token_id": None, "eos_token_id": None}  # unknown here; not the family's own
    if family == "gpt2":
        return document | {"activation_function": "relu" if config.ffn == "relu" else "gelu_new"}
    document |= {"num_key_value_heads": config.heads.n_kv_heads, "head_dim": config.heads.head_dim}
    document |= {"hidden_act": "silu"} | write_rope(config)
    if family == "llama":
        return document | {"attention_bias": config.bias, "mlp_bias": config.bias}
    document |= {"sliding_window": config.sliding_window}
    if family.startswith("qwen"):  # in all blocks, or in none
        is_used = config.sliding_window is not None
        kind = "sliding_attention" if is_used else "full_attention"
        document |= {"use_sliding_window": is_used, "layer_types": [kind] * config.n_layers}
        document |= {"max_window_layers": 0 if is_used else config.n_layers}
    return document


def family_of(config: ModelConfig) -> str:
    """The first family whose `config.json` says all of `config`: read back, it is the same.

    `LessonsError` if there is none; it names a field that the nearest family has otherwise.

    >>> from transformer_lessons.presets import preset
    >>> [family_of(preset(name)) for name in ("gpt2", "python-small")]
    ['gpt2', 'llama']
    """
    misfits = {family: _misfits(config, family) for family in FAMILIES}
    nearest = min(misfits, key=lambda family: len(misfits[family]))
    if misfits[nearest]:
        field, theirs = next(iter(misfits[nearest].items()))
        what = f"{field} = {getattr(config, field)!r} is not what any family can be"
        remedy = f"The nearest is {nearest}, which has {theirs!r}."
        raise LessonsError(what, where=f"ModelConfig.{field}", remedy=remedy)
    return nearest


def _misfits(config: ModelConfig, family: str) -> dict[str, Any]:
    """The fields of `config` that a family's `config.json` doesn't keep, and what they become."""
    try:
        theirs = config_from_huggingface(config_to_huggingface(config, family))[1]
    except LessonsError:
        if family != "gpt2":  # which has no heads of another width
            raise
        return vars(config)
    ours = replace(
        plainest(config),
        dropout=0.0,
        rope_theta=theirs.rope_theta,  # written and read by the same table
        rope_scaling=theirs.rope_scaling,
        adaptive_norm=config.adaptive_norm and config.size_scale < 1,
        qkv_bias=config.bias if config.qkv_bias is None else config.qkv_bias,
    )
    theirs = replace(theirs, qkv_bias=theirs.bias if theirs.qkv_bias is None else theirs.qkv_bias)
    fields = {name: value for name, value in vars(theirs).items() if getattr(ours, name) != value}
    if family == "llama" and config.d_model % config.n_heads != 0:  # transformers refuses it
        fields["d_model"] = config.n_heads * config.heads.head_dim
    return fields


def huggingface_tensors(model: Decoder, family: str) -> dict[str, Tensor]:
    """The tensors of `model` under the family's names: the name map, read from right to left."""
    config, ours = model.config, own_tensors(model)
    names = gpt2_names(config) if family == "gpt2" else map_names(config, LLAMA)
    theirs = {}
    for name, sources in names.items():
        parts = [ours[name]] if len(sources) == 1 else ours[name].split(_qkv_widths(config))
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
