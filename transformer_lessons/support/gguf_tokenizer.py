"""The tokenizer in the metadata of a GGUF file.

    tokenizer.ggml.model        "gpt2": byte-pair encoding on bytes
    tokenizer.ggml.pre          how text is cut into pre-tokens, by name: "smollm"
    tokenizer.ggml.tokens       the tokens by id, spelled with GPT-2's characters: "Ġthe"
    tokenizer.ggml.token_type   1 ordinary, 3 control (special), 4 defined by users, 5 unused
    tokenizer.ggml.merges       "Ġ t", "Ġ a", ...: two tokens and a space between
    tokenizer.ggml.eos_token_id, eot_token_id, eom_token_id     ids with which a text ends

Other models of tokenizers, SentencePiece's say, raise `LessonsError`.
Source: llama.cpp's src/llama-vocab.cpp, where the names of `tokenizer.ggml.pre` are defined.
"""

from typing import Any

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.bpe_files import BPEParts, lacking_bytes
from transformer_lessons.support.files import field
from transformer_lessons.support.tokenizer_json import spell, spelled_merges, unspell

PATTERN_NAMES = {
    "gpt-2": "gpt2",
    "smollm": "smollm2",
    "qwen2": "qwen2",
    "llama-bpe": "llama3",
    "llama-v3": "llama3",
    "llama3": "llama3",
}
# The way back. gpt4 has no name: llama-bpe cuts all but white space at the end of a text like it.
WRITTEN = {"gpt2": "gpt-2", "smollm2": "smollm", "qwen2": "qwen2", "llama3": "llama-bpe"}
WRITTEN["gpt4"] = "llama-bpe"
ORDINARY, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


def read_gguf_tokenizer(metadata: dict[str, Any]) -> BPEParts | None:
    """The tokenizer in the metadata of a file, with the file's ids; None if it has none.

    Control tokens and those that users defined are special tokens; ids of unused ones stay free.
    What doesn't fit raises `LessonsError`.
    """
    if (model := metadata.get("tokenizer.ggml.model")) is None:
        return None
    if model != "gpt2":
        what = f"{str(model)[:40]!r} is not gpt2, byte-pair encoding on bytes"
        remedy = "The model alone can be read: gguf_decoder(read_gguf(path))."
        raise LessonsError(what, where="tokenizer.ggml.model", remedy=remedy)
    pre = str(metadata.get("tokenizer.ggml.pre"))
    if pre not in PATTERN_NAMES:
        what, remedy = f"cutting text like {pre[:40]!r}", f"Known: {', '.join(PATTERN_NAMES)}."
        raise LessonsError(f"{what} is not known", where="tokenizer.ggml.pre", remedy=remedy)
    vocab, special = _read_tokens(metadata)
    lines = field(metadata, "tokenizer.ggml.merges", list[str], "metadata")
    merges = spelled_merges(lines, vocab, "tokenizer.ggml.merges")
    normal_form = "NFC" if pre == "qwen2" else None  # as its tokenizer.json says; GGUF doesn't
    ids = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    eos_ids = [id for id in ids if type(id) is int and id in vocab]
    rest = lacking_bytes(vocab), normal_form, eos_ids
    return BPEParts(vocab, merges, special, PATTERN_NAMES[pre], *rest)


def _read_tokens(metadata: dict[str, Any]) -> tuple[dict[int, bytes], list[str]]:
    """The bytes of each token by id, and those that are special."""
    spelled = field(metadata, "tokenizer.ggml.tokens", list[str], "metadata")
    types = field(metadata, "tokenizer.ggml.token_type", list[int], "metadata")
    if len(types) != len(spelled):
        raise LessonsError("not a type for each token", where="tokenizer.ggml.token_type")
    vocab, special = {}, []
    for id, (text, kind) in enumerate(zip(spelled, types, strict=True)):
        at = f"tokenizer.ggml.tokens[{id}]"
        if kind == ORDINARY:
            vocab[id] = unspell(text, at)
        elif kind in (CONTROL, USER_DEFINED):
            vocab[id] = text.encode("utf-8")
            special.append(text)
        elif kind != UNUSED:
            what = f"{text[:40]!r} has the type {kind}, which is not 1, 3, 4 or 5"
            raise LessonsError(what, where=at)
    return vocab, special


def write_gguf_tokenizer(parts: BPEParts, vocab_size: int) -> dict[str, Any]:
    """The metadata of a tokenizer for a model of `vocab_size` tokens; `LessonsError`: no fit.

    Ids that only the model has become unused tokens. Of the ids that end a text, three are kept.
    """
    what, largest = "", max(parts.vocab)
    if largest >= vocab_size:
        what = f"the tokenizer has ids up to {largest}, the model up to {vocab_size - 1}"
    elif (parts.pattern == "qwen2") != (parts.normal_form == "NFC"):  # its name stands for both
        what = f"{parts.pattern} with the normal form {parts.normal_form}"
    if what:
        raise LessonsError(what, where="tokenizer")
    special = {id: text for text, id in parts.special_ids.items()}
    tokens, types = [f"[PAD{id}]" for id in range(vocab_size)], [UNUSED] * vocab_size
    for id, token in parts.vocab.items():
        tokens[id] = special.get(id) or spell(token)
        types[id] = CONTROL if id in special else ORDINARY
    values: dict[str, Any] = {"model": "gpt2", "pre": WRITTEN[parts.pattern], "tokens": tokens}
    values |= {"token_type": types, "add_bos_token": False}  # llama-bpe would put one in front
    values["merges"] = [f"{spell(left)} {spell(right)}" for left, right in parts.merges or ()]
    ends = ("eos_token_id", "eot_token_id", "eom_token_id")
    values |= dict(zip(ends, parts.eos_ids, strict=False))
    return {f"tokenizer.ggml.{name}": value for name, value in values.items()}
