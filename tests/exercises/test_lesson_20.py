"""The references of lesson 20 against the package's readers, and numbers worked out by hand."""

import struct

import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.rope import to_split_layout
from transformer_lessons.presets import preset
from transformer_lessons.support.gguf_file import read_gguf
from transformer_lessons.weights.chat_template import ChatTemplate
from transformer_lessons.weights.gguf_blocks import dequantize
from transformer_lessons.weights.name_maps import gguf_names

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' "
    "+ message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def exercise(name):
    return find_exercise(f"20.{name}")


def reference(name):
    return exercise(name).reference


def test_lesson_20_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("20")] == [
        "20.read_header",
        "20.dequantize_q8_0",
        "20.undo_interleaving",
        "20.gguf_names",
        "20.chat_text",
        "20.speed_bound",
    ]


def test_the_header_by_hand():  # SPEC G4, G5
    data = b"GGUF" + bytes([3, 0, 0, 0]) + bytes([16, 1, *6 * [0]]) + bytes([34, *7 * [0], 99])
    assert reference("read_header")(data) == [3, 272, 34]


def test_the_header_of_a_file(tmp_path):  # SPEC G4, G5
    def string(text):
        return struct.pack("<Q", len(text)) + text.encode()

    entries = string("a") + struct.pack("<II", 4, 7) + string("b") + struct.pack("<IB", 0, 1)
    tensor = string("t") + struct.pack("<IQIQ", 1, 2, 0, 0)
    header = struct.pack("<4sIQQ", b"GGUF", 3, 1, 2) + entries + tensor
    data = header + bytes(-len(header) % 32) + bytes(8)
    (tmp_path / "a.gguf").write_bytes(data)
    file = read_gguf(tmp_path / "a.gguf")
    counts = [file.version, len(file.tensors), len(file.metadata)]
    assert reference("read_header")(data) == counts == [3, 1, 2]


@pytest.mark.parametrize("case", exercise("dequantize_q8_0").cases)
def test_the_block_is_the_packages(case):  # SPEC G4, G5
    blocks = torch.tensor([list(case[0])], dtype=torch.uint8)
    expected = dequantize(blocks, "Q8_0").tolist()
    assert reference("dequantize_q8_0")(*case) == pytest.approx(expected, rel=1e-6)


def test_the_block_by_hand():  # SPEC G4, G5
    block = bytes([0x00, 0x38, 2, 255, 128, *29 * [0]])  # 0x3800 is 0.5
    assert reference("dequantize_q8_0")(block) == [1.0, -0.5, -64.0, *29 * [0.0]]


@pytest.mark.parametrize("case", exercise("undo_interleaving").cases)
def test_the_order_of_rows_is_the_packages(case):  # SPEC G4, G5
    rows, n_heads = case
    expected = to_split_layout(rows, n_heads=n_heads, dim=0)
    assert torch.equal(reference("undo_interleaving")(*case), expected)


def test_the_order_of_rows_by_hand():  # SPEC G4, G5
    rows = torch.arange(12)[:, None]
    expected = [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]
    assert reference("undo_interleaving")(rows, 2).flatten().tolist() == expected


def test_the_names_are_the_packages():  # SPEC G4, G5
    names = gguf_names(preset("smollm2-135m"), interleaved=True)
    assert {case[0] for case in exercise("gguf_names").cases} <= names.keys()
    for ours, sources in names.items():
        assert reference("gguf_names")(ours) == [source.name for source in sources]


def test_the_names_by_hand():  # SPEC G4, G5
    assert reference("gguf_names")("blocks.10.attention.out.weight") == [
        "blk.10.attn_output.weight"
    ]
    assert reference("gguf_names")("final_norm.weight") == ["output_norm.weight"]


@pytest.mark.parametrize("case", exercise("chat_text").cases)
def test_the_conversation_is_the_templates(case):  # SPEC G4, G5
    assert reference("chat_text")(*case) == ChatTemplate(CHATML).render(*case)


def test_the_conversation_by_hand():  # SPEC G4, G5
    messages = [{"role": "user", "content": "1 + 1?"}]
    expected = "<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n"
    assert reference("chat_text")(messages) == expected


def test_the_bound_by_hand():  # SPEC G4, G5
    bound = reference("speed_bound")
    # 134.5 million weights of 4 bytes, 538 MB, at 10.76 GB a second
    assert bound(134_515_008, 28_311_552, True, 32, 20 * 538_060_032) == pytest.approx(20)
    assert bound(1000, 400, False, 4, 3000.0) == pytest.approx(10)  # 600 weights, 300 bytes


@pytest.mark.parametrize("tied", [False, True])
def test_the_bound_counts_what_a_token_reads(tied):  # SPEC G4, G5
    config = ModelConfig(
        vocab_size=64,
        context_length=8,
        d_model=16,
        n_layers=2,
        n_heads=2,
        d_ff=32,
        bias=False,
        head_bias=False,
        norm="rms",
        tie_embeddings=tied,
    )
    model = Decoder(config)
    n_read = count_parameters(model.blocks) + count_parameters(model.final_norm)
    n_read += count_parameters(model.head)
    sizes = (count_parameters(model), model.embedding.weight.numel())
    assert reference("speed_bound")(*sizes, tied, 16, 1e6) == pytest.approx(1e6 / (2 * n_read))
