"""A model of ours opens in transformers, with equal logits, and comes back bit for bit."""

import errno
import json
import sys
from dataclasses import replace

import pytest
import torch
import transformers

from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.support.huggingface_config import plainest
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.weights.pretrained import load_pretrained
from transformer_lessons.weights.save_pretrained import family_of, save_pretrained
from transformer_lessons.weights.shipped import load_shipped

from ..model.test_decoder_against_transformers import BASE, MODELS, random_decoder

CONFIGS = {name: config for name, (config, _) in MODELS.items() if name != "gpt-neox"}
CONFIGS["llama, dynamic scaling"] = replace(CONFIGS["llama, dynamic scaling"], context_length=64)
CONFIGS |= {
    "gpt2, untied": replace(CONFIGS["gpt2"], tie_embeddings=False),
    "gpt2, relu": replace(CONFIGS["gpt2"], ffn="relu", norm_eps=1e-3),
    "mistral, heads that don't make the width": replace(BASE, n_heads=5, n_kv_heads=1, head_dim=8),
    "qwen2, window of 5": replace(CONFIGS["qwen2"], sliding_window=5, tie_embeddings=False),
    "qwen3, window of 5": replace(CONFIGS["qwen3"], sliding_window=5),
    "llama, adaptive norms at full size": replace(BASE, adaptive_norm=True),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_gives_equal_logits_and_the_way_back_is_exact(name, tmp_path):  # SPEC G5, S2
    model = random_decoder(CONFIGS[name])
    save_pretrained(model, None, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert theirs.config.model_type == name.split(",")[0]
    tokens = torch.randint(50, (2, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = model(tokens)
        assert ours.std() > 0.5
        assert (ours - theirs(tokens).logits).abs().max().item() < 5e-5
    again = load_pretrained(tmp_path)[0]
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    if name != "llama, adaptive norms at full size":
        assert again.config == plainest(CONFIGS[name])


def test_the_shipped_model_and_its_tokenizer_open_in_transformers(tmp_path):  # SPEC G5
    model, tokenizer = load_shipped()
    save_pretrained(model, tokenizer, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "def area(width, height):\n    '''In m².'''\n    return  width * height + 12345\n"
    ids = tokenizer.encode(text)
    assert their_tokenizer.encode(text) == ids
    assert their_tokenizer.decode(ids) == text
    with torch.no_grad():
        model.eval()
        ours, others = model(torch.tensor([ids])), theirs(torch.tensor([ids])).logits
        assert (ours - others).abs().max().item() < 5e-5
    again, their_again = load_pretrained(tmp_path)
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True)
    )
    assert (their_again.vocab, their_again.merges) == (tokenizer.vocab, tokenizer.merges)
    assert their_again.special_tokens == tokenizer.special_tokens
    assert their_again.pattern == tokenizer.pattern


@pytest.mark.parametrize("name", ["qwen2", "qwen2, window of 5", "qwen3, window of 5"])
def test_a_window_is_said_in_the_older_words_too(name, tmp_path):  # SPEC G5
    """Before transformers 4.53 there was no `layer_types`."""
    save_pretrained(random_decoder(CONFIGS[name]), None, tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    del document["layer_types"]
    (tmp_path / "config.json").write_text(json.dumps(document))
    assert load_pretrained(tmp_path)[0].config == plainest(CONFIGS[name])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_is_kept(dtype, tmp_path):
    model = random_decoder(CONFIGS["qwen2"]).to(dtype)
    save_pretrained(model, None, tmp_path)
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path).dtype == dtype
    again = load_pretrained(tmp_path, dtype=dtype)[0].state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


def test_bytes_are_a_tokenizer_without_merges(tmp_path):  # SPEC A1
    model = Decoder(replace(BASE, vocab_size=256))
    save_pretrained(model, ByteTokenizer(), tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "née  Ω\n\t😀 12"
    assert theirs.encode(text) == list(text.encode())
    assert load_pretrained(tmp_path)[1].encode(text) == list(text.encode())


GPT2 = CONFIGS["gpt2"]
UNKNOWN = {
    "norm_placement": (replace(BASE, norm_placement="post"), "nearest is llama, which has 'pre'"),
    "head_bias": (replace(BASE, head_bias=True), "nearest is llama, which has False"),
    "scale_embeddings": (replace(GPT2, scale_embeddings=True), "is gpt2, which has False"),
    "rope_v_scale": (replace(BASE, rope_v_scale=0.5), "nearest is llama, which has 0"),
    "norm": (replace(BASE, norm="layer"), "nearest is llama, which has 'rms'"),
    "position": (replace(GPT2, position="sinusoidal"), "nearest is gpt2, which has 'learned'"),
    "bias": (replace(GPT2, bias=False), "nearest is gpt2, which has True"),
    "ffn": (replace(GPT2, ffn="swiglu"), "nearest is gpt2, which has 'gelu'"),
    "n_kv_heads": (replace(GPT2, n_kv_heads=2), "nearest is gpt2, which has None"),
    "head_dim": (replace(GPT2, head_dim=10), "nearest is gpt2, which has None"),
    "qkv_bias": (replace(GPT2, qkv_bias=False), "nearest is gpt2, which has True"),
    "sliding_window": (replace(BASE, bias=True, sliding_window=5), "nearest is llama"),
    "adaptive_norm": (replace(BASE, d_model=12, head_dim=2, adaptive_norm=True), "has False"),
    "qk_norm": (replace(BASE, qk_norm=True, bias=True), "nearest is"),
}


@pytest.mark.parametrize(("field", "pair"), UNKNOWN.items())
def test_what_no_family_can_be_is_named(field, pair, tmp_path):  # SPEC G5, S9
    config, nearest = pair
    with pytest.raises(LessonsError) as caught:
        save_pretrained(Decoder(config), None, tmp_path / "new")
    assert caught.value.where in (f"ModelConfig.{field}", "ModelConfig.bias")
    assert nearest in caught.value.remedy
    assert not (tmp_path / "new").exists()


def test_a_context_that_dynamic_scaling_does_not_give_is_refused(tmp_path):
    config = replace(CONFIGS["llama, dynamic scaling"], context_length=63)
    with pytest.raises(LessonsError, match=r"Make it factor \* original_context_length, 64"):
        save_pretrained(Decoder(config), None, tmp_path)


def test_the_families_of_the_presets():
    names = {"python-small": "llama", "gpt": "gpt2", "smollm2-135m": "llama", "gpt2": "gpt2"}
    assert {name: family_of(preset(name)) for name in names} == names


def test_a_tokenizer_that_is_too_large_is_refused(tmp_path):  # SPEC S9
    tokenizer = BPETokenizer({b: bytes([b]) for b in range(256)}, [])
    with pytest.raises(LessonsError, match=r"has ids up to 255.*The model knows 50 tokens"):
        save_pretrained(Decoder(BASE), tokenizer, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):  # SPEC S9
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(LessonsError, match=r"not empty: it holds mine\.txt"):
        save_pretrained(Decoder(BASE), None, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):  # SPEC S9, E9
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys.modules[save_pretrained.__module__], "save_file", full)
    with pytest.raises(LessonsError, match="can't write here: No space left on device"):
        save_pretrained(Decoder(BASE), None, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_dropout_is_not_kept(tmp_path):
    save_pretrained(Decoder(replace(BASE, dropout=0.2)), None, tmp_path)
    assert load_pretrained(tmp_path)[0].config == plainest(BASE)
    assert "dropout" not in json.loads((tmp_path / "config.json").read_text())
