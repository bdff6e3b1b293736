"""A model as a GGUF file, which llama.cpp runs. Lesson 26. Source: ggml's docs/gguf.md."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import eos_token_ids
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.rope import rope_frequencies, to_interleaved_layout
from transformer_lessons.model.state_dict import own_tensors
from transformer_lessons.support.bpe_files import errors_in
from transformer_lessons.support.files import new_file
from transformer_lessons.support.gguf_config import ROPE_FACTORS, gguf_settings
from transformer_lessons.support.gguf_file import BLOCK_SIZES, TYPES
from transformer_lessons.support.gguf_tokenizer import write_gguf_tokenizer
from transformer_lessons.tokenizers.tokenizer import Tokenizer
from transformer_lessons.weights.assemble import _qkv_widths
from transformer_lessons.weights.gguf_blocks import quantize_q4_0, quantize_q8_0
from transformer_lessons.weights.name_maps import gguf_names
from transformer_lessons.weights.save_pretrained import _as_bpe, family_of

FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7}  # what the matrices are: llama.h
QUANTIZE = {"F32": Tensor.float, "F16": Tensor.half, "Q8_0": quantize_q8_0, "Q4_0": quantize_q4_0}


def save_gguf(
    model: Decoder,
    tokenizer: Tokenizer | None,
    path: Path | str,
    kind: str = "F16",
    chat_template: str | None = None,
) -> None:
    """Write `model`, `tokenizer` and chat template to the GGUF file `path`, whole or not at all.

    Matrices are of the `kind` F32, F16, Q8_0 or Q4_0; vectors and learned positions stay float32.
    A field of the config that llama.cpp can't be told, weights that `kind` can't hold, and a
    tokenizer with more tokens than the model raise `LessonsError`. Dropout isn't kept.
    """
    if kind not in FILE_TYPES:
        raise LessonsError(f"{kind!r} is not one of {', '.join(FILE_TYPES)}", where="kind")
    family = family_of(model.config)
    architecture = "llama" if family == "mistral" else family
    metadata: dict[str, Any] = {"general.architecture": architecture}
    metadata |= {"general.file_type": FILE_TYPES[kind], "general.quantization_version": 2}
    metadata |= gguf_settings(model.config, architecture)
    if tokenizer is not None:
        others = eos_token_ids(tokenizer).difference(own := tokenizer.eos_ids)
        parts = _as_bpe(tokenizer).parts._replace(eos_ids=[*own, *sorted(others)])
        metadata |= write_gguf_tokenizer(parts, model.config.vocab_size)
    if chat_template is not None:
        metadata["tokenizer.chat_template"] = chat_template
    with new_file(Path(path)) as file:
        write_gguf(file, metadata, gguf_tensors(model, architecture), kind)


def gguf_tensors(model: Decoder, architecture: str) -> dict[str, Tensor]:
    """The tensors of `model` under llama.cpp's names, rows of q and k as its RoPE wants them."""
    config, ours, theirs = model.config, own_tensors(model), dict[str, Tensor]()
    n_heads, n_kv_heads, width = config.heads
    for name, sources in gguf_names(config).items():
        parts = [ours[name]] if len(sources) == 1 else list(ours[name].split(_qkv_widths(config)))
        if architecture == "llama" and ".qkv." in name:  # others turn halves, as we do
            parts[0] = to_interleaved_layout(parts[0], n_heads, dim=0)
            parts[1] = to_interleaved_layout(parts[1], n_kv_heads, dim=0)
        theirs |= {source.name: part for source, part in zip(sources, parts, strict=True)}
    if config.rope_scaling is not None and config.rope_scaling.kind == "llama3":
        plain, _ = rope_frequencies(width, config.rope_theta)
        theirs[ROPE_FACTORS] = (
            plain / rope_frequencies(width, config.rope_theta, config.rope_scaling)[0]
        )
    return theirs


def write_gguf(
    file: BinaryIO, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], kind: str
) -> None:
    """Write a GGUF file of version 3: matrices as blocks of `kind`, all else as float32.

    Each tensor begins at a multiple of 32 bytes; its offset is counted from where the data begins.
    """
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_string(key) + gguf_value(value) for key, value in metadata.items())
    offset, kinds = 0, {name: kind for name, tensor in tensors.items() if tensor.ndim == 2}
    kinds |= {name: "F32" for name in tensors if name not in kinds or "position" in name}
    numbers = {name: number for number, name in TYPES.items()}
    for name, tensor in tensors.items():
        sizes, (n_values, n_bytes) = tensor.shape[::-1], BLOCK_SIZES[kinds[name]]
        head += _string(name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        head += struct.pack("<IQ", numbers[kinds[name]], offset)
        offset += _padded(tensor.numel() // n_values * n_bytes)
    file.write(head.ljust(_padded(len(head)), b"\0"))
    for name, tensor in tensors.items():
        with errors_in(f"tensor {name!r}"):
            blocks = QUANTIZE[kinds[name]](tensor.detach().cpu())
            if blocks.is_floating_point() and not blocks.isfinite().all():
                raise LessonsError(f"a weight is not finite, or too large for {kinds[name]}")
        file.write(data := blocks.contiguous().numpy().tobytes())
        file.write(bytes(_padded(len(data)) - len(data)))


def gguf_value(value: Any) -> bytes:
    """The number of a metadata value's type, and the value: bool, int, float, text, or a list.

    >>> gguf_value(7).hex(), gguf_value("a").hex()
    ('0400000007000000', '08000000010000000000000061')
    """
    if isinstance(value, list):
        inner = 5 if value and isinstance(value[0], int) else 8
        items = [struct.pack("<i", one) if inner == 5 else _string(one) for one in value]
        return struct.pack("<IIQ", 9, inner, len(value)) + b"".join(items)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    number, letter = {bool: (7, "?"), int: (4, "I"), float: (6, "f")}[type(value)]
    return struct.pack(f"<I{letter}", number, value)


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // 32) * 32
