"""Windows miss nothing; with a mask and positions, packed documents are computed as if alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import IGNORE
from transformer_lessons.data.packing import TokenWindows, document_mask
from transformer_lessons.data.token_files import TokenFile, tokenize_corpus
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.attention import causal_mask, fused_attend
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.training.loss import cross_entropy

END = 0
# Documents of 1 to 6 tokens, END included; the last one is cut off by the window.
DOCUMENTS = [[5, 3, 7, END], [END], [2, 9, 4, 4, 8, END], [6, END], [1, 2, 3]]
WINDOW = torch.tensor([token for document in DOCUMENTS for token in document])


def windows_of(ids, context_length):
    return TokenWindows(TokenFile(Path("a.npy"), {}, ids), context_length)


@given(n_tokens=st.integers(2, 80), context_length=st.integers(1, 20))
def test_every_token_of_a_whole_window_is_a_target_once(n_tokens, context_length):
    ids = np.arange(n_tokens, dtype=np.uint16) * 3
    if n_tokens <= context_length:
        return
    seen = []
    for inputs, targets in windows_of(ids, context_length):
        assert inputs.shape == targets.shape == (context_length,)
        assert inputs.dtype == targets.dtype == torch.long
        assert torch.equal(targets, inputs + 3)  # the token after its input
        seen += targets.tolist()
    assert seen == ids[1 : 1 + len(seen)].tolist()
    assert n_tokens - 1 - context_length < len(seen) <= n_tokens - 1


def test_ids_above_half_of_their_range_stay_positive():
    for dtype in ("<u2", "<u4"):
        ids = np.array([np.iinfo(dtype).max - 1, np.iinfo(dtype).max], dtype)
        inputs, targets = windows_of(ids, 1)[0]
        assert (inputs.item(), targets.item()) == (int(ids[0]), int(ids[1]))


def test_the_mask_is_a_causal_block_for_each_document():
    expected = torch.block_diag(*(causal_mask(len(document)).int() for document in DOCUMENTS))
    assert torch.equal(document_mask(WINDOW, END).int(), expected)


def test_positions_restart_in_each_document():
    positions = [place for document in DOCUMENTS for place in range(len(document))]
    assert (document_mask(WINDOW, END).sum(-1) - 1).tolist() == positions


def test_a_batch_of_windows_is_treated_row_by_row():
    rows = torch.stack([WINDOW, WINDOW.flip(0)])
    for mask, alone in zip(document_mask(rows, END), rows, strict=True):
        assert torch.equal(mask, document_mask(alone, END))


CONFIGS = {
    "rope": {"position": "rope", "norm": "rms", "ffn": "swiglu", "n_kv_heads": 1},
    "learned": {"position": "learned"},
    "sinusoidal": {"position": "sinusoidal"},
    "values turned": {"position": "rope", "rope_v_scale": 0.5},
}


def config_of(name):
    return ModelConfig(10, 32, d_model=8, n_layers=2, n_heads=2, d_ff=16, **CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_documents_are_computed_as_if_alone(random_model, name):  # SPEC S3
    model = random_model(config_of(name))
    mask = document_mask(WINDOW, END)
    positions = mask.sum(-1) - 1
    with torch.no_grad():
        alone = torch.cat([model(torch.tensor([document]))[0] for document in DOCUMENTS])
        packed = model(WINDOW[None], positions=positions, mask=mask)[0]
        no_mask = model(WINDOW[None], positions=positions)[0]
        plain = model(WINDOW[None])[0]
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-12)
    # Only the first document is right without a mask; and the mask is not the positions' work.
    first = len(DOCUMENTS[0])
    torch.testing.assert_close(no_mask[:first], alone[:first], rtol=0, atol=1e-12)
    assert ((no_mask - alone)[first:].abs().amax(-1) > 1e-3).all()
    assert ((plain - alone)[first:].abs().amax(-1) > 1e-3).all()


def test_learned_positions_must_restart(random_model):
    model = random_model(config_of("learned"))
    mask = document_mask(WINDOW, END)
    with torch.no_grad():
        alone = torch.cat([model(torch.tensor([document]))[0] for document in DOCUMENTS])
        running_on = model(WINDOW[None], mask=mask)[0]
    first = len(DOCUMENTS[0])
    assert ((running_on - alone)[first:].abs().amax(-1) > 1e-3).all()


def test_the_fused_kernel_takes_the_mask(random_model):
    model = random_model(config_of("rope"))
    mask = document_mask(WINDOW, END)
    positions = mask.sum(-1) - 1
    with torch.no_grad():
        explicit = model(WINDOW[None], positions=positions, mask=mask)
        for block in model.blocks:
            block.attention.attend = fused_attend
        torch.testing.assert_close(model(WINDOW[None], positions=positions, mask=mask), explicit)


def test_the_loss_of_a_packed_window_is_the_documents_loss(random_model):
    model = random_model(config_of("rope"))
    inputs, mask = WINDOW[:-1], document_mask(WINDOW[:-1], END)
    targets = WINDOW[1:].masked_fill(inputs == END, IGNORE)
    with torch.no_grad():
        logits = model(inputs[None], positions=mask.sum(-1) - 1, mask=mask)
        sums = [0.0, 0]
        for document in DOCUMENTS:
            if len(document) > 1:
                tokens = torch.tensor([document])
                n = len(document) - 1
                sums[0] += n * cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]).item()
                sums[1] += n
    assert cross_entropy(logits, targets[None]).item() == pytest.approx(sums[0] / sums[1], rel=1e-6)


@pytest.fixture
def tokens(tmp_path):
    """The token file of five short documents, with an end after each."""
    tokenizer = BPETokenizer.train("", 257, special_tokens=["<|endoftext|>"])
    texts = ["abc", "d", "efghi", "j", "klm"]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return tokenize_corpus(path, tokenizer, tmp_path / "a.npy")


def test_a_token_file_as_windows(tokens):  # SPEC S3
    windows = TokenWindows(tokens, context_length=5)
    assert tokens.ids.tolist() == [
        *b"abc",
        256,
        *b"d",
        256,
        *b"efghi",
        256,
        *b"j",
        256,
        *b"klm",
        256,
    ]
    assert len(windows) == 3
    rows = [(inputs.tolist(), targets.tolist()) for inputs, targets in windows]
    assert rows[0] == ([97, 98, 99, 256, 100], [98, 99, 256, 100, 256])
    assert rows[-1] == ([105, 256, 106, 256, 107], [256, 106, 256, 107, 108])


@pytest.mark.parametrize("index", [-1, 3, 100])
def test_there_are_no_other_windows(tokens, index):
    with pytest.raises(IndexError):
        TokenWindows(tokens, 5)[index]


@pytest.mark.parametrize("context_length", [0, -1, 18, 100])
def test_windows_that_do_not_fit_are_refused(tokens, context_length):
    assert len(tokens.ids) == 18
    assert len(TokenWindows(tokens, 17)) == 1
    with pytest.raises(
        LessonsError, match=rf"^18 tokens, but windows of {context_length} need one"
    ):
        TokenWindows(tokens, context_length)
