"""The references of lesson 26 against files that were written, and numbers worked out by hand."""

import pytest
import torch

from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.model.rope import to_interleaved_layout
from transformer_lessons.support.gguf_file import read_gguf
from transformer_lessons.weights.gguf_writing import gguf_tensors, save_gguf
from transformer_lessons.weights.shipped import load_shipped


def reference(name):
    return find_exercise(f"26.{name}").reference


@pytest.fixture(scope="module")
def model():
    return load_shipped()[0]


def test_lesson_26_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("26")] == [
        "26.tensor_offsets",
        "26.interleave_rows",
        "26.name_map",
        "26.tie_or_copy",
        "26.dynamic_axes",
    ]


@pytest.mark.parametrize("kind", ["F16", "Q4_0"])
def test_the_offsets_are_those_of_a_file(model, tmp_path, kind):  # SPEC G4
    save_gguf(model, None, tmp_path / "a.gguf", kind)
    tensors = list(read_gguf(tmp_path / "a.gguf").tensors.values())
    offsets = reference("tensor_offsets")([tensor.n_bytes for tensor in tensors], 32)
    assert offsets == [tensor.offset - tensors[0].offset for tensor in tensors]
    assert reference("tensor_offsets")([33, 32, 1], 32) == [0, 64, 96]


@pytest.mark.parametrize("case", find_exercise("26.interleave_rows").cases)
def test_the_rows_are_the_packages(case):  # SPEC G4
    weight, n_heads = case
    expected = to_interleaved_layout(weight, n_heads, dim=0)
    assert torch.equal(reference("interleave_rows")(*case), expected)


def test_the_order_of_six_rows():  # SPEC G4
    assert reference("interleave_rows")(torch.arange(6.0)[:, None], 1).flatten().tolist() == [
        *(0, 3, 1, 4, 2, 5)
    ]


def test_the_names_are_those_of_a_file(model):  # SPEC G4
    theirs = gguf_tensors(model, "qwen2")  # whose rows are in our order
    for name in ("attention.qkv", "attention.out", "feedforward.up"):
        ours = model.state_dict()[f"blocks.5.{name}.weight"]
        for found, start, end in reference("name_map")(f"blocks.5.{name}.weight", len(ours), 64):
            assert torch.equal(theirs[found], ours[start:end])


def test_a_tied_head_by_hand():  # SPEC G4
    table = torch.arange(4.0).view(2, 2)
    write = reference("tie_or_copy")
    assert list(write({"embedding.weight": table}, True, True)) == ["embedding.weight"]
    copied = write({"embedding.weight": table}, True, False)["head.weight"]
    assert torch.equal(copied, table)
    assert copied.data_ptr() != table.data_ptr()


def test_dynamic_axes_by_hand():  # SPEC G4
    calls = [{"a": [1, 2, 3], "b": [4]}, {"a": [1, 5, 3], "b": [4]}, {"a": [2, 5, 3], "b": [4]}]
    assert reference("dynamic_axes")(calls) == {"a": [0, 1], "b": []}
