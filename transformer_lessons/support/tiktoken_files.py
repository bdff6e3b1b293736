"""tiktoken's encodings: the published ones, one as a BPE tokenizer, and a BPE tokenizer as one."""

from collections.abc import Mapping

import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks, load_tiktoken_bpe

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.assets import ASSETS, fetch
from transformer_lessons.support.bpe_files import BPEParts

# tiktoken_ext/openai_public.py
# fmt: off
SPECIAL_TOKENS = {
    "cl100k_base": {
        "<|endoftext|>": 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259,
        "<|fim_suffix|>": 100260, "<|endofprompt|>": 100276,
    },
    "gpt2": {"<|endoftext|>": 50256},
}
# fmt: on


def published_encoding(name: str, patterns: Mapping[str, str]) -> tiktoken.Encoding:
    """tiktoken's encoding `name`, its files taken from the cache or fetched once (see `assets`)."""
    if not isinstance(name, str) or name not in SPECIAL_TOKENS:
        remedy = f"Known: {', '.join(SPECIAL_TOKENS)}."
        raise LessonsError(f"unknown encoding {name!r}", remedy=remedy)
    files = ["gpt2_merges", "gpt2_ids"] if name == "gpt2" else [name]
    # tiktoken keeps copies in a folder that all users share: the hashes are for them.
    paths, hashes = [str(fetch(file)) for file in files], [ASSETS[file].sha256 for file in files]
    pattern, special = patterns["gpt2" if name == "gpt2" else "gpt4"], SPECIAL_TOKENS[name]
    if name == "gpt2":
        ranks = data_gym_to_mergeable_bpe_ranks(paths[0], paths[1], hashes[0], hashes[1])
    else:
        ranks = load_tiktoken_bpe(paths[0], hashes[0])
    return tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)


def read_encoding(encoding: tiktoken.Encoding, patterns: Mapping[str, str]) -> BPEParts:
    """The parts of `encoding`, whose split pattern must be one of `patterns` (names to texts)."""
    names = {text: name for name, text in patterns.items()}
    if encoding._pat_str not in names:
        what = f"{encoding.name} splits text with a pattern of its own"
        remedy = f"Known patterns: {', '.join(patterns)}."
        raise LessonsError(what, where="pattern", remedy=remedy)
    special = dict(sorted(encoding._special_tokens.items(), key=lambda item: item[1]))
    vocab = {rank: token for token, rank in encoding._mergeable_ranks.items()}
    vocab |= {id: text.encode("utf-8") for text, id in special.items()}
    return BPEParts(vocab, None, list(special), names[encoding._pat_str])


def make_encoding(parts: BPEParts, pattern: str) -> tiktoken.Encoding:
    """An `Encoding` with the ids of `parts`, which splits text by the regular expression `pattern`.

    tiktoken has one number for a token's id and for its rank, so ids must grow with the merges. It
    needs all 256 bytes, and where one special token begins another, it takes either. What doesn't
    fit raises `LessonsError`.
    """
    special, ids, what = parts.special_ids, parts.ids, ""
    order = [max((ids.get(bytes([byte]), -1) for byte in range(256)), default=-1)]
    order += [ids[left + right] for left, right in parts.merges or ()]
    begun = [(a, b) for a in special for b in special if a != b and b.startswith(a)]
    if parts.normal_form is not None:
        what = f"tiktoken does not bring text into the form {parts.normal_form}"
    elif begun:
        what = "the special token {!r} is the beginning of {!r}".format(*begun[0])
    elif parts.missing_bytes:
        what = f"the vocabulary lacks the byte {parts.missing_bytes[0]:#04x}, which tiktoken needs"
    if what:
        raise LessonsError(what, where="tiktoken", remedy="Use to_huggingface in its place.")
    if order != sorted(order):
        remedy = "Its ids must be bytes first, then merges in the order they were learned."
        what = "the ids are not in the order of the merges"
        raise LessonsError(what, where="vocab", remedy=remedy)
    return tiktoken.Encoding(
        "transformer_lessons",
        pat_str=pattern,
        mergeable_ranks={token: id for token, id in ids.items() if id not in special.values()},
        special_tokens=special,
    )
