"""Hugging Face folders changed at random: a model or `LessonsError`, in little time and memory."""

import json
import random
import time

import pytest
import torch
import transformers

from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.weights.pretrained import load_pretrained

from .test_mutations import VALUES, change_bytes, change_document, outcome, peak_gigabytes, places

FILES = ("config.json", "model.safetensors.index.json", "tokenizer.json", "shard")
PATHS = ("../secret.safetensors", "/etc/passwd", "..", "config.json", "model\0", "x/../x")


@pytest.fixture
def saved(tmp_path):
    """A small Llama in two files, with a tokenizer; beside it a file that must not be read."""
    folder = tmp_path / "model"
    sizes = {"vocab_size": 300, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16}
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**sizes, **heads)
    transformers.LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="10KB")
    tokenizer = BPETokenizer.train("low lower lowest " * 9, 270, ["<|end|>"])
    tokenizer.to_huggingface(folder / "tokenizer.json")
    (tmp_path / "secret.safetensors").write_bytes(next(folder.glob("model-*")).read_bytes())
    return folder


def mutate(dice, name, data):
    """Another file: JSON with other values or paths, or other bytes."""
    if not name.endswith(".json") or dice.random() < 0.3:
        return change_bytes(dice, data)
    if name.endswith("index.json") and dice.random() < 0.5:
        document = json.loads(data)
        *path, last = dice.choice([p for p in places(document) if len(p) == 2])
        document[path[0]][last] = dice.choice((*PATHS, *VALUES))
        return json.dumps(document).encode()
    return change_document(dice, data)


def test_a_mutated_folder_loads_or_is_refused(saved, tries):  # SPEC S9, S2
    n_tries, dice, outcomes, slowest = tries(200, 40_000), random.Random(0), {}, 0.0
    shards = sorted(path.name for path in saved.glob("model-*"))
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    load_pretrained(saved)
    peak_before = peak_gigabytes()
    for turn in range(n_tries):
        name = FILES[turn % 4]
        name = dice.choice(shards) if name == "shard" else name
        (saved / name).write_bytes(mutate(dice, name, files[name]))
        start = time.perf_counter()
        result = outcome(lambda: load_pretrained(saved))
        slowest = max(slowest, time.perf_counter() - start)
        outcomes.setdefault(FILES[turn % 4], []).append(result)
        (saved / name).write_bytes(files[name])
    grown = peak_gigabytes() - peak_before
    for name, results in outcomes.items():
        n_fine = results.count("fine")
        print(f"{name}: {len(results)} mutations, {n_fine} loaded, {len(results) - n_fine} refused")
        assert 0 < n_fine < len(results)
    print(f"slowest {slowest:.2f} s, peak memory grown by {grown:.2f} GB")
    assert grown < 1.0
    assert sorted(path.name for path in saved.parent.iterdir()) == ["model", "secret.safetensors"]
