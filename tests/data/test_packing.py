"""Windows miss nothing; with a mask and positions, packed documents are computed as if alone."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import IGNORE
from transformer_lessons.data.packing import (
    TokenWindows,
    count_windows,
    document_mask,
    document_positions,
    hide_boundaries,
    number_documents,
    take_window,
)
from transformer_lessons.data.token_files import tokenize_corpus
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.attention import causal_mask, fused_attend
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.training.loss import cross_entropy

END = 0
# Documents of 1 to 6 tokens, END included; the last one is cut off by the window.
DOCUMENTS = [[5, 3, 7, END], [END], [2, 9, 4, 4, 8, END], [6, END], [1, 2, 3]]
WINDOW = torch.tensor([token for document in DOCUMENTS for token in document])


@given(n_tokens=st.integers(2, 80), context_length=st.integers(1, 20))
def test_every_token_but_the_first_is_a_target_once(n_tokens, context_length):
    ids = np.arange(n_tokens, dtype=np.uint16) * 3
    if n_tokens <= context_length:
        return
    seen = []
    for index in range(count_windows(n_tokens, context_length)):
        inputs, targets = take_window(ids, index, context_length)
        assert inputs.shape == targets.shape == (context_length,)
        assert inputs.dtype == targets.dtype == torch.long
        real = targets != IGNORE
        assert torch.equal(targets[real], inputs[real] + 3)  # the token after its input
        seen += targets[real].tolist()
    assert seen == ids[1:].tolist()


def test_ids_above_half_of_their_range_stay_positive():
    for dtype in ("<u2", "<u4"):
        ids = np.array([np.iinfo(dtype).max - 1, np.iinfo(dtype).max], dtype)
        inputs, targets = take_window(ids, 0, context_length=1)
        assert (inputs.item(), targets.item()) == (int(ids[0]), int(ids[1]))


def test_documents_are_numbered_and_their_positions_restart():
    numbers = [n for n, document in enumerate(DOCUMENTS) for _ in document]
    positions = [place for document in DOCUMENTS for place in range(len(document))]
    documents = number_documents(WINDOW, END)
    assert documents.tolist() == numbers
    assert document_positions(documents).tolist() == positions


def test_a_batch_of_windows_is_treated_row_by_row():
    rows = torch.stack([WINDOW, WINDOW.flip(0)])
    documents = number_documents(rows, END)
    for row, alone in enumerate(rows):
        one = number_documents(alone, END)
        assert torch.equal(documents[row], one)
        assert torch.equal(document_positions(documents)[row], document_positions(one))
        assert torch.equal(document_mask(documents)[row], document_mask(one))


def test_the_mask_is_a_causal_block_for_each_document():
    expected = torch.block_diag(*(causal_mask(len(document)).int() for document in DOCUMENTS))
    assert torch.equal(document_mask(number_documents(WINDOW, END)).int(), expected)


def test_targets_across_boundaries_are_ignored():
    inputs, targets = WINDOW[:-1], WINDOW[1:]
    hidden = hide_boundaries(inputs, targets, END).tolist()
    expected = []
    for document in DOCUMENTS:
        expected += [*document[1:], IGNORE]
    assert hidden == expected[:-1]
    assert targets.tolist() == WINDOW[1:].tolist()  # those handed in are as they were


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
    documents = number_documents(WINDOW, END)
    positions, mask = document_positions(documents), document_mask(documents)
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
    mask = document_mask(number_documents(WINDOW, END))
    with torch.no_grad():
        alone = torch.cat([model(torch.tensor([document]))[0] for document in DOCUMENTS])
        running_on = model(WINDOW[None], mask=mask)[0]
    first = len(DOCUMENTS[0])
    assert ((running_on - alone)[first:].abs().amax(-1) > 1e-3).all()


def test_the_fused_kernel_takes_the_mask(random_model):
    model = random_model(config_of("rope"))
    documents = number_documents(WINDOW, END)
    positions, mask = document_positions(documents), document_mask(documents)
    with torch.no_grad():
        explicit = model(WINDOW[None], positions=positions, mask=mask)
        for block in model.blocks:
            block.attention.attend = fused_attend
        torch.testing.assert_close(model(WINDOW[None], positions=positions, mask=mask), explicit)


def test_the_loss_of_a_packed_window_is_the_documents_loss(random_model):
    model = random_model(config_of("rope"))
    inputs, targets = WINDOW[:-1], hide_boundaries(WINDOW[:-1], WINDOW[1:], END)
    documents = number_documents(inputs, END)
    with torch.no_grad():
        logits = model(
            inputs[None], positions=document_positions(documents), mask=document_mask(documents)
        )
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
    assert len(windows) == 4
    rows = [(inputs.tolist(), targets.tolist()) for inputs, targets in windows]
    assert rows[0] == ([97, 98, 99, 256, 100], [98, 99, 256, 100, 256])
    assert rows[-1] == ([106, 256, 107, 108, 109], [IGNORE, IGNORE, IGNORE, 109, 256])
    alone = [
        (inputs.tolist(), targets.tolist()) for inputs, targets in TokenWindows(tokens, 5, True)
    ]
    assert alone[0] == ([97, 98, 99, 256, 100], [98, 99, 256, IGNORE, 256])
    assert alone[-1] == rows[-1]
    assert [inputs for inputs, _ in alone] == [inputs for inputs, _ in rows]


@pytest.mark.parametrize("index", [-1, 4, 100])
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


def test_without_ends_documents_can_not_be_told_apart(tmp_path):
    (tmp_path / "a.txt").write_text("abcdef")
    tokens = tokenize_corpus(tmp_path / "a.txt", ByteTokenizer(), tmp_path / "a.npy")
    assert len(TokenWindows(tokens, 3)) == 2
    with pytest.raises(LessonsError, match=r"^nothing shows where documents end \(.*a\.npy\)"):
        TokenWindows(tokens, 3, alone=True)
