"""Pretrained models from the files they are published in. Lesson 20."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from transformer_lessons.config import ModelConfig
from transformer_lessons.device import best_device
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.rope import rope_frequencies
from transformer_lessons.support.bpe_files import errors_in
from transformer_lessons.support.gguf_config import ROPE_FACTORS, gguf_config, rope_factors
from transformer_lessons.support.gguf_file import GGUFFile, read_gguf
from transformer_lessons.support.gguf_tokenizer import read_gguf_tokenizer
from transformer_lessons.support.huggingface_config import read_config, read_eos_ids
from transformer_lessons.support.safetensors_files import (
    StoredTensor,
    file_in_folder,
    find_tensors,
    read_tensor,
)
from transformer_lessons.support.tokenizer_json import find_huggingface, read_huggingface
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.weights.assemble import assemble
from transformer_lessons.weights.gguf_blocks import gguf_tensor
from transformer_lessons.weights.name_maps import LLAMA, gguf_names, gpt2_names, map_names

HEAD = "lm_head.weight"
# Tensors that hold no weights: GPT-2's causal masks, and the speeds of RoPE, which are computed.
NO_WEIGHTS = re.compile(
    r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias|model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
)


def load_pretrained(
    path: Path | str, dtype: torch.dtype | str = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Decoder, BPETokenizer | None]:
    """A published model in the book's own `Decoder`, and its tokenizer.

    `path` is a Hugging Face folder (`config.json`, `model.safetensors`, `tokenizer.json`) or a
    `.gguf` file. The weights come in `dtype` on `device`, one tensor at a time; every tensor of the
    files is used exactly once. Without any tokenizer in the files, it is None.

    An architecture, a feature or a tensor that the decoder doesn't have, and a file that is damaged
    or leads out of its folder, raise `LessonsError` and are named. Nothing in the files is run.
    """
    path, dtype, device = Path(path), _as_dtype(dtype), _as_device(device)
    if path.suffix.lower() == ".gguf":
        return load_gguf(path, dtype, device)
    if not path.is_dir():
        remedy = "Give a folder with config.json and model.safetensors, or a .gguf file."
        if not path.exists():
            remedy += " Nothing is downloaded here. Models of Hugging Face's hub come into a folder"
            remedy += " by `hf download NAME --local-dir FOLDER`, SmolLM2 by"
            remedy += " `python -m transformer_lessons download smollm2-135m`."
        raise LessonsError("not a folder, nor a .gguf file", where=str(path), remedy=remedy)
    return load_huggingface(path, dtype, device)


def _as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """The dtype that a string like "float16" names; others than floats raise `LessonsError`."""
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point or found.itemsize < 2:
        remedy = "Use torch.float32, torch.bfloat16, torch.float16 or torch.float64."
        raise LessonsError(f"{dtype!r} is no dtype for weights", where="dtype", remedy=remedy)
    return found


def _as_device(device: torch.device | str) -> torch.device:
    """The device that is named; one that isn't here raises `LessonsError`."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:  # torch has one for each kind
        what = f"can't use {str(device)!r}: {str(error).splitlines()[0]}"
        remedy = f"Use {str(best_device())!r}, the fastest that is here."
        raise LessonsError(what, where="device", remedy=remedy) from None


def load_gguf(
    path: Path | str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Decoder, BPETokenizer | None]:
    """The model in the GGUF file `path`, in `dtype` on `device`, and its tokenizer, or None."""
    file = read_gguf(path)
    tokenizer = gguf_tokenizer(file)  # first: it takes a second, the weights may take a minute
    return gguf_decoder(file, dtype, device), tokenizer


def gguf_tokenizer(file: GGUFFile) -> BPETokenizer | None:
    """The tokenizer in a GGUF file, with the file's ids; None if it has none."""
    with errors_in(file.path):
        parts = read_gguf_tokenizer(file.metadata)
        return None if parts is None else BPETokenizer(*parts)


def gguf_decoder(
    file: GGUFFile, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Decoder:
    """The model in a GGUF file, without its tokenizer."""
    config, tensors = gguf_config(file), dict(file.tensors)
    if tensors.pop(ROPE_FACTORS, None):
        _check_factors(config, rope_factors(file, config.heads.head_dim), str(file.path))
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    names = partial(gguf_names, interleaved=file.metadata["general.architecture"] == "llama")
    read = partial(gguf_tensor, file, dtype=dtype)
    return assemble(config, names, shapes, read, dtype, device, where=str(file.path))


def load_huggingface(
    folder: Path | str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Decoder, BPETokenizer | None]:
    """The model in a Hugging Face folder, in `dtype` on `device`, and its tokenizer, or None."""
    folder = Path(folder)
    family, config = read_config(folder)
    # First: it takes a second, the weights a minute.
    tokenizer = _folder_tokenizer(folder, read_eos_ids(folder, config.vocab_size))
    if tokenizer is not None and tokenizer.n_vocab > config.vocab_size:
        what = f"the tokenizer has ids up to {tokenizer.n_vocab - 1}"
        remedy = f"The model knows {config.vocab_size:,} tokens. Do the files belong together?"
        raise LessonsError(what, where=str(folder), remedy=remedy)
    stored = find_tensors(folder)
    tensors = {name: place for name, place in stored.items() if not NO_WEIGHTS.fullmatch(name)}
    _check_prefixes(tensors, str(folder))
    prefix = "" if any(name.startswith("h.0.") for name in tensors) else "transformer."
    names = partial(map_names, modules=LLAMA)
    if family == "gpt2":
        names = partial(gpt2_names, prefix=prefix)
    embedding = names(replace(config, n_layers=1))["embedding.weight"][0].name
    _join_head(tensors, config.tie_embeddings, embedding, str(folder))

    def read(name: str) -> Tensor:
        return read_tensor(tensors[name].path, tensors[name].name, dtype)

    shapes = {name: place.shape for name, place in tensors.items()}
    return assemble(config, names, shapes, read, dtype, device, where=str(folder)), tokenizer


def _folder_tokenizer(folder: Path, eos_ids: Sequence[int] = ()) -> BPETokenizer | None:
    """The tokenizer of a folder: None if there is no file, `LessonsError` for an unknown kind."""
    if (found := find_huggingface(folder)) is None:
        return None
    path = file_in_folder(folder, found.name)
    with errors_in(path):
        return BPETokenizer(*read_huggingface(path)._replace(eos_ids=eos_ids))


def _check_prefixes(tensors: Mapping[str, StoredTensor], where: str) -> None:
    """Raise `LessonsError` for names that begin as those of a model inside of a wrapper."""
    for prefix, maker in {
        "_orig_mod.": "torch.compile",
        "module.": "DistributedDataParallel",
    }.items():
        if any(name.startswith(prefix) for name in tensors):
            what = f"the tensors' names begin with {prefix!r}: what {maker} returned was saved"
            remedy = f"Save the model inside of it, model.{prefix.removesuffix('.')}."
            raise LessonsError(what, where=where, remedy=remedy)


def _join_head(tensors: dict[str, StoredTensor], is_tied: bool, embedding: str, where: str) -> None:
    """Leave one of head and embedding in `tensors` if they are tied; both must be there if not.

    Of tied ones, files keep the embedding, the head (so `safetensors.torch.save_model`), or both.
    """
    if not is_tied:
        if HEAD not in tensors:
            what = f"{HEAD!r} is missing, and tie_word_embeddings is false"
            remedy = "Set it to true in config.json, if the head is the embedding. A model without"
            raise LessonsError(what, where=where, remedy=f"{remedy} any head can't write.")
        return
    both = [tensors[name] for name in (HEAD, embedding) if name in tensors]
    if len(both) == 2:
        head, other = both
        if head.shape != other.shape or not torch.equal(
            read_tensor(head.path, head.name), read_tensor(other.path, other.name)
        ):
            what = f"tie_word_embeddings is true, but {HEAD!r} is not the embedding"
            remedy = "Set it to false in config.json, if the model was trained so."
            raise LessonsError(what, where=str(head.path), remedy=remedy)
    if both:
        tensors[embedding] = both[-1]
    tensors.pop(HEAD, None)


def _check_factors(config: ModelConfig, factors: Tensor, path: str) -> None:
    """Raise `LessonsError` unless a file slows RoPE down by the factors of the config's scaling."""
    width, theta = config.heads.head_dim, config.rope_theta
    plain, scaled = (rope_frequencies(width, theta, how)[0] for how in (None, config.rope_scaling))
    if not torch.allclose(plain / scaled, factors, rtol=1e-4):
        where = f"{path}, {ROPE_FACTORS}"
        raise LessonsError("the factors are not those of Llama 3", where=where)
