"""ONNX graphs that we write: onnxruntime computes what the model computes, at any size."""

import json
from dataclasses import replace

import onnx
import onnxruntime
import pytest
import torch

from transformer_lessons.config import ModelConfig, RopeScaling
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.generate import complete
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference
from transformer_lessons.presets import preset
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.weights.onnx_export import DecoderStep, export_onnx

from ..model.test_decoder_against_transformers import random_decoder

GROUPED = ModelConfig(
    256, 64, d_model=48, n_layers=2, n_heads=6, n_kv_heads=2, d_ff=96, norm="rms", ffn="swiglu",
    bias=False, head_bias=False, tie_embeddings=True, qk_norm=True, sliding_window=9, dropout=0.2,
)  # fmt: skip
LEARNED = replace(
    GROUPED, position="learned", norm="layer", ffn="gelu", sliding_window=None, n_layers=1
)
CONFIGS = {"grouped heads, a window": GROUPED, "learned positions": LEARNED}


@pytest.fixture(scope="module", params=CONFIGS)
def exported(request, tmp_path_factory):
    """A model, and the session that runs its file."""
    model = random_decoder(CONFIGS[request.param]).train()
    path = tmp_path_factory.mktemp("a [b] ü") / "model.onnx"
    export_onnx(model, path)
    assert model.training  # as it was
    assert [found.name for found in path.parent.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(str(path), full_check=True)
    return model, onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]), path


def run(session, tokens, past):
    return map(
        torch.from_numpy, session.run(None, {"tokens": tokens.numpy(), "past": past.numpy()})
    )


def no_past(config, n_texts=1):
    _, n_kv_heads, width = config.heads
    return torch.zeros(2, config.n_layers, n_texts, n_kv_heads, 0, width)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 37), (3, 20), (2, 64)])
def test_a_whole_text_has_the_models_logits(exported, sizes):  # SPEC G10
    model, session, _ = exported
    tokens = torch.randint(256, sizes, generator=torch.Generator().manual_seed(0))
    with inference(model):
        ours = model(tokens)
    theirs, present = run(session, tokens, no_past(model.config, sizes[0]))
    assert ours.std() > 0.5
    assert (ours - theirs).abs().max().item() < 1e-4
    assert present.shape[4] == sizes[1]


def test_a_text_in_pieces_has_the_same_logits(exported):  # SPEC G10
    """20 tokens at once, then one by one, then 7 and 2: the cache goes in and out."""
    model, session, _ = exported
    tokens = torch.randint(256, (2, 34), generator=torch.Generator().manual_seed(1))
    with inference(model):
        ours = model(tokens)
    past, start = no_past(model.config, 2), 0
    for n_tokens in (20, 1, 1, 1, 1, 1, 7, 2):
        piece = slice(start, start + n_tokens)
        logits, past = run(session, tokens[:, piece], past)
        assert (logits - ours[:, piece]).abs().max().item() < 1e-4
        start += n_tokens
    assert start == tokens.shape[1] == past.shape[4]


def test_the_step_is_the_model(exported):
    model, _, _ = exported
    tokens = torch.randint(256, (1, 12), generator=torch.Generator().manual_seed(2))
    with inference(model):
        first, past = DecoderStep(model)(tokens[:, :5], no_past(model.config))
        rest, _ = DecoderStep(model)(tokens[:, 5:], past)
        torch.testing.assert_close(torch.cat([first, rest], 1), model(tokens), rtol=0, atol=1e-4)


def test_it_writes_the_same_text(exported):
    model, session, _ = exported
    prompt, past, new = "def", no_past(model.config), []
    tokens = torch.tensor([list(prompt.encode())])
    for _ in range(20):
        logits, past = run(session, tokens, past)
        tokens = logits[:, -1:].argmax(dim=-1)
        new.append(int(tokens))
    sampler = Sampler(temperature=0.0)
    ours = complete(model, ByteTokenizer(), prompt, max_new_tokens=20, sampler=sampler)
    assert ours == bytes(new).decode("utf-8", errors="replace")


def test_the_file_says_what_it_is_and_nothing_of_this_machine(exported):
    model, _, path = exported
    document = onnx.load(path)
    [entry] = document.metadata_props
    assert ModelConfig.from_dict(json.loads(entry.value)) == model.config
    sizes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in document.graph.input
    }
    assert sizes["tokens"] == ["batch", "new"]
    assert sizes["past"] == [2, model.config.n_layers, "batch", 2, "past", 8]
    assert b".py" not in path.read_bytes()
    n_bytes = sum(parameter.nbytes for parameter in model.parameters())
    assert n_bytes < path.stat().st_size < n_bytes + 60_000  # the tied matrix is there once


def test_what_cannot_be_a_graph_is_named(tmp_path, monkeypatch):
    config = replace(GROUPED, rope_scaling=RopeScaling("dynamic", 2.0, 64))
    with pytest.raises(LessonsError, match=r"dynamic .* \(ModelConfig.rope_scaling\)"):
        export_onnx(Decoder(config), tmp_path / "a.onnx")
    with torch.device("meta"):
        huge = Decoder(preset("llama3.2-1b"))
    with pytest.raises(LessonsError, match="over 2 GiB"):
        export_onnx(huge, tmp_path / "a.onnx")

    def missing(*_, **__):
        raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")

    monkeypatch.setattr(torch.onnx, "export", missing)
    with pytest.raises(LessonsError, match=r"onnxscript is missing\. pip install onnx onnxscript"):
        export_onnx(random_decoder(GROUPED), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []
