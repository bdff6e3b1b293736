"""GGUF files that we write: read back bit for bit, and run by others' programs."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType as Type

from transformer_lessons.config import RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.support.gguf_file import read_gguf
from transformer_lessons.support.gguf_tokenizer import write_gguf_tokenizer
from transformer_lessons.support.huggingface_config import plainest
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.weights import gguf_writing
from transformer_lessons.weights.chat_template import load_chat_template
from transformer_lessons.weights.gguf_writing import FILE_TYPES, save_gguf
from transformer_lessons.weights.pretrained import gguf_tokenizer, load_gguf
from transformer_lessons.weights.shipped import load_shipped

from ..model.test_decoder_against_transformers import BASE, MODELS, random_decoder
from .foreign_gguf import INSTALLED

WIDE = replace(BASE, d_model=64, d_ff=96, n_heads=4)
GPT2 = MODELS["gpt2"][0]
LLAMA3 = RopeScaling("llama3", 8.0, original_context_length=8192)
CONFIGS = {
    "llama": BASE,
    "llama, tied": replace(BASE, tie_embeddings=True, norm_eps=1e-6),
    "llama, heads of width 14": replace(BASE, head_dim=14),
    "llama, heads that don't make the width": replace(BASE, n_heads=5, n_kv_heads=1, head_dim=8),
    "llama, linear scaling": replace(BASE, rope_scaling=RopeScaling("linear", 4.0)),
    "llama, yarn": replace(BASE, rope_scaling=RopeScaling("yarn", 4.0, 16)),
    "llama, llama3 scaling": replace(BASE, rope_theta=500_000.0, rope_scaling=LLAMA3),
    "qwen2": MODELS["qwen2"][0],
    "qwen3": MODELS["qwen3"][0],
    # transformers passes the file's width over, and takes its own: 128
    "qwen3, as transformers takes it": replace(MODELS["qwen3"][0], head_dim=128),
    "gpt2": GPT2,
    "gpt2, untied": replace(GPT2, tie_embeddings=False),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a [b] ü.gguf"


def tokens(config):
    return torch.randint(config.vocab_size, (2, 37), generator=torch.Generator().manual_seed(1))


# ---- What comes back -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_written_comes_back_bit_for_bit(path, name):  # SPEC G5, A1
    model = random_decoder(CONFIGS[name])
    save_gguf(model, None, path, "F32")
    again, tokenizer = load_gguf(path)
    assert tokenizer is None
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    ours, theirs = plainest(model.config), again.config
    assert theirs.norm_eps == pytest.approx(ours.norm_eps, rel=1e-6)
    if ours.rope_scaling is not None:
        assert theirs.rope_scaling.factor == pytest.approx(ours.rope_scaling.factor, rel=1e-6)
        ours = replace(ours, rope_scaling=replace(ours.rope_scaling, factor=2.0))
        theirs = replace(theirs, rope_scaling=replace(theirs.rope_scaling, factor=2.0))
    same = {"norm_eps": 1e-5, "qkv_bias": None, "dropout": 0.0}
    assert replace(theirs, **same) == replace(ours, **same)


THEIRS = ["llama", "llama, tied", "qwen2"]  # of a gpt2 it passes over most settings
THEIRS += ["qwen3, as transformers takes it"]


@pytest.mark.parametrize("name", THEIRS)
def test_transformers_reads_the_file_and_gives_equal_logits(path, name):  # SPEC G5
    model = random_decoder(CONFIGS[name])
    save_gguf(model, None, path, "F32")
    others = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, attn_implementation="eager"
    )
    with torch.no_grad():
        ours, theirs = model(tokens(model.config)), others(tokens(model.config)).logits
    assert ours.std() > 0.5
    assert (ours - theirs).abs().max().item() < 5e-5


def test_rows_in_the_wrong_order_would_be_seen(path, monkeypatch):  # SPEC G5
    model = random_decoder(BASE)
    monkeypatch.setattr(gguf_writing, "to_interleaved_layout", lambda x, n_heads, dim: x)
    save_gguf(model, None, path, "F32")
    others = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name)
    with torch.no_grad():
        difference = model(tokens(BASE)) - others(tokens(BASE)).logits
    assert difference.abs().max() > 0.1


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_the_package_gguf_reads_the_same(path, kind):  # SPEC G5, G10
    model = random_decoder(WIDE)
    save_gguf(model, None, path, kind)
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    assert {t.name: (tuple(map(int, t.shape[::-1])), t.tensor_type.name, int(t.data_offset))
            for t in theirs.tensors} == {
        name: (t.shape, t.type, t.offset) for name, t in ours.tensors.items()
    }  # fmt: skip
    assert all(t.offset % 32 == 0 for t in ours.tensors.values())
    fields = {name: field.contents() for name, field in theirs.fields.items()}
    assert {name: fields[name] for name in ours.metadata} == ours.metadata
    exact = gguf_writing.gguf_tensors(model, "llama")
    for tensor in theirs.tensors:
        how = kind if exact[tensor.name].ndim == 2 else "F32"
        assert tensor.tensor_type.name == how
        expected = gguf.quants.quantize(exact[tensor.name].detach().numpy(), Type[how])
        assert np.array_equal(tensor.data.view(np.uint8), expected.view(np.uint8))


# ---- The tokenizer and the template --------------------------------------------------------------

TEXT = "def area(width, height):\n    '''In m².'''\n    return  width * height + 12345\n"


def test_the_shipped_tokenizer_comes_back(path):  # SPEC G5
    model, tokenizer = load_shipped()
    save_gguf(model, tokenizer, path, "Q8_0", chat_template="{{ messages[0].content }}")
    again = gguf_tokenizer(read_gguf(path))
    assert (again.vocab, again.merges) == (tokenizer.vocab, tokenizer.merges)
    assert again.special_tokens == tokenizer.special_tokens
    assert again.eos_ids == (tokenizer.special_tokens["<|endoftext|>"],)
    assert again.encode(TEXT) == tokenizer.encode(TEXT)
    assert load_chat_template(path).render([{"role": "user", "content": "ü"}]) == "ü"


def test_a_published_tokenizer_is_written_as_it_was(smollm2):  # SPEC G5
    theirs = read_gguf(smollm2).metadata
    tokenizer = gguf_tokenizer(read_gguf(smollm2))
    for name, value in write_gguf_tokenizer(tokenizer.parts, len(tokenizer.vocab)).items():
        if name.rsplit(".", 1)[1] not in ("add_bos_token", "eos_token_id", "eot_token_id"):
            assert theirs[name] == value


def test_the_models_own_end_comes_first(path):
    shipped, tokenizer = load_shipped()
    vocab = tokenizer.vocab | {4000: b"<|im_end|>"}
    special = ["<|endoftext|>", "<|im_end|>"]
    merges = [pair for pair in tokenizer.merges if b"".join(pair) in vocab.values()]
    chat = BPETokenizer(vocab, merges, special, eos_ids=[4000])
    save_gguf(shipped, chat, path)
    metadata = read_gguf(path).metadata
    assert metadata["tokenizer.ggml.eos_token_id"] == 4000
    assert metadata["tokenizer.ggml.eot_token_id"] == 4095
    assert gguf_tokenizer(read_gguf(path)).eos_ids == (4000, 4095)


def test_bytes_and_ids_that_only_the_model_has(path):  # SPEC A1
    save_gguf(random_decoder(replace(BASE, vocab_size=300)), ByteTokenizer(), path)
    again = gguf_tokenizer(read_gguf(path))
    assert again.encode("née\0") == list("née\0".encode())
    assert read_gguf(path).metadata["tokenizer.ggml.tokens"][299] == "[PAD299]"
    assert 299 not in again.vocab


# ---- A program of others -------------------------------------------------------------------------


def of_bytes(config):
    """A random model, whose tokens are bytes."""
    return random_decoder(replace(config, vocab_size=256, context_length=256)), ByteTokenizer()


RUN = {
    "python-small, F16": (load_shipped, "F16"),
    "python-small, Q8_0": (load_shipped, "Q8_0"),
    "gpt2": (lambda: of_bytes(GPT2), "F32"),
    "qwen2": (lambda: of_bytes(CONFIGS["qwen2"]), "F32"),
    "qwen3": (lambda: of_bytes(CONFIGS["qwen3"]), "F32"),
    "llama, llama3 scaling": (lambda: of_bytes(CONFIGS["llama, llama3 scaling"]), "F32"),
}


@pytest.mark.parametrize("name", RUN)
def test_llama_cpp_writes_the_same_32_tokens(path, name):  # SPEC G10
    if not INSTALLED:
        pytest.skip("NOT TESTED AGAINST llama.cpp: pip install llama-cpp-python, or xllamacpp")
    make, kind = RUN[name]
    model, tokenizer = make()
    save_gguf(model, tokenizer, path, kind)
    ours, prompt = load_gguf(path)[0], "def mean(values):"
    ids = tokenizer.encode(prompt)
    with torch.no_grad():
        for _ in range(32):
            ids.append(int(ours(torch.tensor([ids]))[0, -1].argmax()))
    script = Path(__file__).with_name("foreign_gguf.py")
    line = [sys.executable, str(script), str(path), prompt, "32"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == ids[-32:]


# ---- What is refused -----------------------------------------------------------------------------

UNKNOWN = {
    "sliding_window": replace(BASE, sliding_window=5),
    "bias": replace(BASE, bias=True),
    "ffn": replace(GPT2, ffn="relu"),
    "rope_scaling": replace(BASE, rope_scaling=RopeScaling("dynamic", 4.0, 16)),
    "norm_placement": replace(BASE, norm_placement="post"),
}


@pytest.mark.parametrize("field", UNKNOWN)
def test_a_config_that_the_format_cannot_say_is_named(path, field):
    with pytest.raises(LessonsError) as caught:
        save_gguf(Decoder(UNKNOWN[field]), None, path)
    assert caught.value.where == f"ModelConfig.{field}"
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("scaling", [
    RopeScaling("llama3", 8.0, 4096),
    RopeScaling("llama3", 8.0, 8192, beta_fast=3.0),
    RopeScaling("yarn", 8.0, 4096, attention_factor=1.0),
])  # fmt: skip
def test_a_scaling_with_numbers_of_its_own_is_named(path, scaling):
    with pytest.raises(LessonsError, match=r"rope_scaling = .* can't be said"):
        save_gguf(Decoder(replace(BASE, rope_scaling=scaling)), None, path)


def test_what_else_does_not_fit_is_named(path):
    model, (shipped, tokenizer) = random_decoder(BASE), load_shipped()
    with pytest.raises(LessonsError, match=r"'Q5_K' is not one of F32, F16, Q4_0, Q8_0 \(kind\)"):
        save_gguf(model, None, path, "Q5_K")
    with pytest.raises(LessonsError, match=r"not made of groups of 32 .*blk.0.ffn_down.weight"):
        save_gguf(Decoder(replace(WIDE, d_ff=100)), None, path, "Q8_0")
    with pytest.raises(LessonsError, match=r"ids up to 4095, the model up to 49 \(tokenizer\)"):
        save_gguf(model, tokenizer, path)
    odd = BPETokenizer(tokenizer.vocab, tokenizer.merges, ["<|endoftext|>"], normal_form="NFC")
    with pytest.raises(LessonsError, match="gpt4 with the normal form NFC"):
        save_gguf(shipped, odd, path)
    for number in (float("inf"), 70_000.0):
        with torch.no_grad():
            model.blocks[1].feedforward.up.weight[3, 2] = number
        with pytest.raises(LessonsError, match=r"too large for F16 .*blk.1.ffn_up.weight"):
            save_gguf(model, None, path)
    assert list(path.parent.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(path, monkeypatch):  # SPEC E9
    path.write_bytes(b"before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf_writing, "write_gguf", full)
    with pytest.raises(LessonsError, match="can't write it: No space left on device"):
        save_gguf(random_decoder(BASE), None, path)
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]
