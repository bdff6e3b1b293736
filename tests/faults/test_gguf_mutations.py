"""GGUF files changed at random: a value or `LessonsError`, nothing else, and little memory."""

import os
import random
import resource
import struct
import time

from transformers import LlamaConfig, LlamaForCausalLM

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.gguf_file import read_gguf
from transformer_lessons.support.tokenizer_json import byte_characters
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.weights.pretrained import load_gguf

from ..weights.gguf_writing import write_model

NUMBERS = (0, 1, 2, 3, 7, 8, 9, 31, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)


def write_small_model(path):
    """A llama with everything that a file can hold: metadata, a tokenizer, blocks."""
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 8}
    characters = byte_characters()
    learned = BPETokenizer.train("low lower lowest " * 3, 260)
    spelled = ["".join(characters[byte] for byte in token) for token in learned.vocab.values()]
    merges = [
        " ".join("".join(characters[byte] for byte in part) for part in pair)
        for pair in learned.merges
    ]
    tokenizer = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [*spelled, "<|end|>"],
        "tokenizer.ggml.token_type": [1] * len(spelled) + [3],
        "tokenizer.ggml.merges": merges,
        "tokenizer.chat_template": "{{ messages }}",
    }
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(spelled) + 1, **sizes))
    write_model(path, model, "Q4_1", tokenizer=tokenizer)


def mutated(dice, data, n_head):
    """A few bytes are others, a number is huge, a piece is gone or there twice, or it is cut."""
    data = bytearray(data)
    kind = dice.random()
    if kind < 0.1:
        return data[: dice.randrange(len(data))]
    if kind < 0.2:
        start, n_bytes, at = dice.randrange(n_head), dice.randint(1, 64), dice.randrange(n_head)
        if dice.random() < 0.5:
            del data[start : start + n_bytes]
        else:
            data[at:at] = data[start : start + n_bytes]
        return data
    for _ in range(dice.randint(1, 3)):
        place = dice.randrange(n_head if dice.random() < 0.7 else len(data) - 8)
        if dice.random() < 0.5:
            data[place] = dice.randrange(256)
        else:
            form = dice.choice("IQ")
            number = dice.choice(NUMBERS) % 2 ** (32 if form == "I" else 64)
            struct.pack_into(f"<{form}", data, place, number)
    return data


def refusal(path):
    """The error, or None for a model that was loaded; another exception fails the test."""
    try:
        load_gguf(path)
    except LessonsError as error:
        return error
    return None


def test_a_mutated_gguf_loads_or_is_refused(tmp_path, tries):  # SPEC S9
    path, n_tries, dice = tmp_path / "a.gguf", tries(200, 10_000), random.Random(0)
    write_small_model(path)
    good, file = path.read_bytes(), read_gguf(path)
    n_head = min(tensor.offset for tensor in file.tensors.values())
    load_gguf(path)
    # The vocabulary is most of the header; so the rest is aimed at as often as the whole of it.
    n_settings = good.index(b"tokenizer.ggml.tokens")
    outcomes, slowest = [], 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(n_tries):
        path.write_bytes(mutated(dice, good, dice.choice((n_settings, n_head))))
        start = time.perf_counter()
        outcomes.append(refusal(path))
        slowest = max(slowest, time.perf_counter() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    n_fine = outcomes.count(None)
    assert all(str(path) in error.where and error.what for error in outcomes if error is not None)
    print(f"{n_tries} mutations: {n_fine} loaded, {n_tries - n_fine} refused")
    print(f"slowest {slowest:.2f} s, peak memory grown by {grown:.2f} GB")
    assert n_tries / 50 < n_fine < n_tries * 0.98  # both ends were reached
    assert grown < 1.0
    assert os.listdir(tmp_path) == ["a.gguf"]
