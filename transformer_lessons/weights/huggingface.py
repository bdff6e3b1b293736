"""A Hugging Face folder as the book's `Decoder` and its tokenizer."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.support.tokenizer_json import find_huggingface
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.weights.assemble import assemble
from transformer_lessons.weights.huggingface_config import read_config
from transformer_lessons.weights.name_maps import NO_WEIGHTS, names_of
from transformer_lessons.weights.safetensors_files import (
    StoredTensor,
    file_in_folder,
    find_tensors,
    read_tensor,
)

HEAD = "lm_head.weight"


def load_huggingface(
    folder: Path | str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Decoder, BPETokenizer | None]:
    """The model in a Hugging Face folder, in `dtype` on `device`, and its tokenizer.

    `config.json` says what the model is, `model.safetensors` (or several such files and an index)
    holds its tensors, each of which is used exactly once, and `tokenizer.json` its tokenizer. A
    folder without any tokenizer gives None for it.
    """
    folder = Path(folder)
    family, config = read_config(folder)
    tokenizer = folder_tokenizer(folder)  # first: it takes a second, the weights may take a minute
    if tokenizer is not None and tokenizer.n_vocab > config.vocab_size:
        what = f"the tokenizer has ids up to {tokenizer.n_vocab - 1}"
        remedy = f"The model knows {config.vocab_size:,} tokens. Do the files belong together?"
        raise LessonsError(what, where=str(folder), remedy=remedy)
    return huggingface_decoder(folder, family, config, dtype, device), tokenizer


def folder_tokenizer(folder: Path) -> BPETokenizer | None:
    """The tokenizer of a folder: None if no file is there, `LessonsError` for an unknown kind."""
    found = find_huggingface(folder)
    return found and BPETokenizer.from_huggingface(file_in_folder(folder, found.name))


def huggingface_decoder(
    folder: Path, family: str, config: ModelConfig, dtype: torch.dtype, device: torch.device | str
) -> Decoder:
    """The model of a folder whose config has been read."""
    stored = find_tensors(folder)
    tensors = {name: place for name, place in stored.items() if not NO_WEIGHTS.fullmatch(name)}
    names = names_of(family, tensors)
    if config.tie_embeddings and HEAD in tensors:
        check_tied(tensors, names(replace(config, n_layers=1))["embedding.weight"][0].name)
        del tensors[HEAD]

    def read(name: str) -> Tensor:
        return read_tensor(tensors[name].path, name, dtype)

    shapes = {name: place.shape for name, place in tensors.items()}
    return assemble(config, names, shapes, read, dtype, device, where=str(folder))


def check_tied(tensors: dict[str, StoredTensor], embedding: str) -> None:
    """Raise `LessonsError` unless a head that is stored all the same is the embedding."""
    path = tensors[HEAD].path
    both = [tensors[name] for name in (HEAD, embedding) if name in tensors]
    is_one = len(both) == 2 and both[0].shape == both[1].shape
    if not is_one or not torch.equal(
        read_tensor(path, HEAD), read_tensor(tensors[embedding].path, embedding)
    ):
        what = f"tie_word_embeddings is true, but {HEAD!r} is not the embedding"
        remedy = "Set it to false in config.json, if the model was trained so."
        raise LessonsError(what, where=str(path), remedy=remedy)
