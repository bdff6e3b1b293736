"""The references of lesson 22 against the package, and numbers worked out by hand."""

import pytest
import torch
from torch import nn

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.data.pairs import collate
from transformer_lessons.exercises.exercise import find_exercise, lesson_exercises
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.training.chat_data import chat_example
from transformer_lessons.weights.lora import LoraLinear, add_lora
from transformer_lessons.weights.shipped import load_shipped

TOKENIZER = BPETokenizer({i: bytes([i]) for i in range(256)}, [], ["<|im_start|>", "<|im_end|>"])


def exercise(name):
    return find_exercise(f"22.{name}")


def reference(name):
    return exercise(name).reference


def chatml(messages, add_generation_prompt):
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return text + "<|im_start|>assistant\n" * add_generation_prompt


def test_lesson_22_has_its_exercises():  # SPEC G4
    assert [exercise.id for exercise in lesson_exercises("22")] == [
        "22.chat_targets",
        "22.loss_tokens",
        "22.lora_delta",
        "22.count_trainable",
        "22.pad_targets",
        "22.switch",
    ]


def test_chat_targets_by_hand():  # SPEC G4, G5
    turns = [("user", [5, 6, 2]), ("assistant", [7, 2]), ("user", [8, 2]), ("assistant", [9, 2])]
    #                inputs: 5    6    2  7  2    8    2  9
    assert reference("chat_targets")(turns) == [-100, -100, 7, 2, -100, -100, 9, 2]


def test_chat_targets_are_the_packages():  # SPEC G4, G5
    """With a template that adds nothing but the end, the parts are the messages."""

    def bare(messages, add_generation_prompt):
        return "".join(f"{m['content']}<|im_end|>" for m in messages)

    texts = ["why", "so", "and", "yes"]
    roles = ["user", "assistant"] * 2
    messages = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=True)]
    _, targets = chat_example(bare, messages, TOKENIZER)
    end = TOKENIZER.special_tokens["<|im_end|>"]
    turns = [(r, [*t.encode(), end]) for r, t in zip(roles, texts, strict=True)]
    assert reference("chat_targets")(turns) == targets.tolist()


@pytest.mark.parametrize("case", exercise("loss_tokens").cases)
def test_loss_tokens_are_the_packages(case):  # SPEC G4, G5
    """The words of the exercise, put together to a conversation, through the package."""
    [tokens] = case
    said = reference("loss_tokens")(tokens)
    text = "".join("\n" if token == "\\n" else token for token in tokens)
    parts = [part.partition("\n") for part in text.split("<|im_start|>")[1:]]
    messages = [{"role": r, "content": c.partition("<|im_end|>")[0]} for r, _, c in parts]
    assert chatml(messages, False) == text
    _, targets = chat_example(chatml, messages, TOKENIZER)
    learned = TOKENIZER.decode(targets[targets != IGNORE].tolist())
    assert learned == "".join(t for t, flag in zip(tokens, said, strict=True) if flag)


def test_loss_tokens_by_hand():  # SPEC G4, G5
    tokens = ["<|im_start|>", "assistant", "\\n", "Hi", "!", "<|im_end|>", "\\n"]
    assert reference("loss_tokens")(tokens) == [False] * 3 + [True] * 3 + [False]


@pytest.mark.parametrize("case", exercise("lora_delta").cases)
def test_the_delta_is_the_packages(case):  # SPEC G4, G5
    a, b, alpha = case
    lora = LoraLinear(nn.Linear(a.shape[1], b.shape[0]), rank=len(a), alpha=alpha)
    with torch.no_grad():
        lora.layer.weight.zero_()
        lora.lora_a.copy_(a)
        lora.lora_b.copy_(b)
    torch.testing.assert_close(reference("lora_delta")(a, b, alpha), lora.merged().weight.data)


def test_the_delta_by_hand():  # SPEC G4, G5
    a, b = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert reference("lora_delta")(a, b, 6.0).tolist() == [[3.0, 6.0], [9.0, 12.0]]


def test_the_count_is_the_packages():  # SPEC G4, G5
    model, _ = load_shipped()
    adapted = add_lora(model, rank=4, alpha=8)
    shapes = [tuple(m.weight.shape) for m in model.blocks.modules() if isinstance(m, nn.Linear)]
    counted = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert reference("count_trainable")(shapes, 4) == counted == 72_192


def test_pad_targets_are_the_packages():  # SPEC G4, G5
    """`collate` pads with 0, which is the end here, and ignores its padding."""
    rows, lengths = exercise("pad_targets").cases[-1]
    examples = [(torch.tensor(r[:n]),) * 2 for r, n in zip(rows, lengths, strict=True)]
    inputs, targets = collate(examples)
    assert inputs.tolist() == rows
    assert reference("pad_targets")(rows, lengths) == targets.tolist()


@pytest.mark.parametrize("case", exercise("switch").cases)
def test_the_switch_leads_where_merging_leads(case):  # SPEC G4, G5
    weight, old, new = case
    delta = reference("lora_delta")
    merged = weight + delta(*old)
    torch.testing.assert_close(reference("switch")(merged, old, new), weight + delta(*new))
