"""Pretrained models from the files they are published in. Lesson 20."""

import re
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.rope import rope_frequencies
from transformer_lessons.support.bpe_files import errors_in
from transformer_lessons.support.gguf_config import ROPE_FACTORS, gguf_config, rope_factors
from transformer_lessons.support.gguf_file import GGUFFile, read_gguf
from transformer_lessons.support.gguf_tokenizer import read_gguf_tokenizer
from transformer_lessons.support.huggingface_config import read_config
from transformer_lessons.support.safetensors_files import (
    StoredTensor,
    file_in_folder,
    find_tensors,
    read_tensor,
)
from transformer_lessons.support.tokenizer_json import find_huggingface
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.weights.assemble import assemble
from transformer_lessons.weights.gguf_blocks import gguf_tensor
from transformer_lessons.weights.name_maps import LLAMA, gguf_names, gpt2_names, map_names

HEAD = "lm_head.weight"
EMBEDDINGS = ("model.embed_tokens.weight", "transformer.wte.weight", "wte.weight")
# Tensors that hold no weights: GPT-2's causal masks, and the speeds of RoPE, which are computed.
NO_WEIGHTS = re.compile(
    r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias|model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
)


def load_pretrained(
    path: Path | str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Decoder, BPETokenizer | None]:
    """A published model in the book's own `Decoder`, and its tokenizer.

    `path` is a Hugging Face folder (`config.json`, `model.safetensors`, `tokenizer.json`) or a
    `.gguf` file. The weights come in `dtype` on `device`, one tensor at a time; every tensor of the
    files is used exactly once. Without any tokenizer in the files, it is None.

    An architecture, a feature or a tensor that the decoder doesn't have, and a file that is damaged
    or leads out of its folder, raise `LessonsError` and are named. Nothing in the files is run.
    """
    path = Path(path)
    if path.suffix == ".gguf":
        return load_gguf(path, dtype, device)
    if not path.is_dir():
        remedy = "Give a folder with config.json and model.safetensors, or a .gguf file."
        raise LessonsError("not a folder, nor a .gguf file", where=str(path), remedy=remedy)
    return load_huggingface(path, dtype, device)


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
    tokenizer = _folder_tokenizer(folder)  # first: it takes a second, the weights a minute
    if tokenizer is not None and tokenizer.n_vocab > config.vocab_size:
        what = f"the tokenizer has ids up to {tokenizer.n_vocab - 1}"
        remedy = f"The model knows {config.vocab_size:,} tokens. Do the files belong together?"
        raise LessonsError(what, where=str(folder), remedy=remedy)
    stored = find_tensors(folder)
    tensors = {name: place for name, place in stored.items() if not NO_WEIGHTS.fullmatch(name)}
    if config.tie_embeddings and HEAD in tensors:
        _check_tied(tensors)
        del tensors[HEAD]
    names = partial(map_names, modules=LLAMA)
    if family == "gpt2":
        names = partial(gpt2_names, prefix="" if "wte.weight" in tensors else "transformer.")

    def read(name: str) -> Tensor:
        return read_tensor(tensors[name].path, name, dtype)

    shapes = {name: place.shape for name, place in tensors.items()}
    return assemble(config, names, shapes, read, dtype, device, where=str(folder)), tokenizer


def _folder_tokenizer(folder: Path) -> BPETokenizer | None:
    """The tokenizer of a folder: None if there is no file, `LessonsError` for an unknown kind."""
    if (found := find_huggingface(folder)) is None:
        return None
    return BPETokenizer.from_huggingface(file_in_folder(folder, found.name))


def _check_tied(tensors: dict[str, StoredTensor]) -> None:
    """Raise `LessonsError` unless a head that is stored all the same is the embedding."""
    both = [(tensors[name], name) for name in (HEAD, *EMBEDDINGS) if name in tensors]
    is_one = len(both) == 2 and both[0][0].shape == both[1][0].shape
    if not is_one or not torch.equal(*(read_tensor(place.path, name) for place, name in both)):
        what = f"tie_word_embeddings is true, but {HEAD!r} is not the embedding"
        remedy = "Set it to false in config.json, if the model was trained so."
        raise LessonsError(what, where=str(tensors[HEAD].path), remedy=remedy)


def _check_factors(config: ModelConfig, factors: Tensor, path: str) -> None:
    """Raise `LessonsError` unless a file slows RoPE down by the factors of the config's scaling."""
    width, theta = config.heads.head_dim, config.rope_theta
    plain, scaled = (rope_frequencies(width, theta, how)[0] for how in (None, config.rope_scaling))
    if not torch.allclose(plain / scaled, factors, rtol=1e-4):
        where = f"{path}, {ROPE_FACTORS}"
        raise LessonsError("the factors are not those of Llama 3", where=where)
