"""The exercises of lesson 20: a real model in your own code."""

import struct

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _read_header(data: bytes) -> list[int]:
    """Version, number of tensors and number of metadata entries of a GGUF file."""
    return list(struct.unpack_from("<IQQ", data, 4))


READ_HEADER = Exercise(
    id="20.read_header",
    cases=(
        (struct.pack("<4sIQQ", b"GGUF", 3, 2, 1),),
        (struct.pack("<4sIQQ", b"GGUF", 2, 290, 24),),
        (struct.pack("<4sIQQ", b"GGUF", 3, 272, 34) + b"\x14\x00\x00\x00\x00\x00\x00\x00general",),
        (struct.pack("<4sIQQ", b"GGUF", 3, 2**33 + 5, 70_000) + bytes(40),),
    ),
    reference=_read_header,
    wrong_answers=(
        WrongAnswer(
            lambda data: list(struct.unpack_from(">IQQ", data, 4)),
            "These numbers were read with the most significant byte first. GGUF has it last.",
        ),
        WrongAnswer(
            lambda data: list(struct.unpack_from("<III", data, 4)),
            "Only the version takes 4 bytes. Each count takes 8 (in version 1 it was 4).",
        ),
        WrongAnswer(
            lambda data: [_read_header(data)[0], *_read_header(data)[:0:-1]],
            "The counts are swapped: the number of tensors comes first, then that of the entries.",
        ),
        WrongAnswer(
            lambda data: list(struct.unpack_from("<IQQ", data)),
            "This reads from byte 0, where the letters GGUF are. The version begins at byte 4.",
        ),
    ),
    hints=(
        "Bytes 0 to 3 are letters, bytes 4 to 7 the version. Which bytes hold the two counts?",
        'int.from_bytes(data[4:8], "little") is the version.',
    ),
)


def _q8_0_block(scale: float, q: list[int]) -> bytes:
    return struct.pack("<e32b", scale, *q)


def _dequantize(block: bytes) -> list[float]:
    """The 32 weights of a block of Q8_0: scale * q."""
    scale, *q = struct.unpack("<e32b", block)
    return [scale * one for one in q]


def _from_letters(letters: str, block: bytes) -> list[float]:
    scale, *q = struct.unpack(letters, block)
    return [scale * one for one in q]


def _scale_behind(block: bytes) -> list[float]:
    *q, scale = struct.unpack("<32be", block)
    return [scale * one for one in q]


DEQUANTIZE_Q8_0 = Exercise(
    id="20.dequantize_q8_0",
    cases=(
        (_q8_0_block(0.5, [2, -1, *[0] * 30]),),
        (_q8_0_block(1.0, [*range(-16, 16)]),),
        (_q8_0_block(0.0123, [127, -128, *range(-60, 60, 4)]),),
    ),
    reference=_dequantize,
    wrong_answers=(
        WrongAnswer(
            lambda block: _from_letters("<e32B", block),
            "The integers are signed: the byte 255 is -1, and 128 is -128.",
        ),
        WrongAnswer(
            lambda block: _from_letters(">e32b", block),
            "The two bytes of the scale are swapped: the least significant one comes first.",
        ),
        WrongAnswer(
            _scale_behind,
            "The scale comes first: it is the first two bytes, not the last two.",
        ),
        WrongAnswer(
            lambda block: [float(one) for one in struct.unpack("<e32b", block)[1:]],
            "These are the integers. Each of them must still be multiplied by the scale.",
        ),
        WrongAnswer(
            lambda block: _from_letters("<h32b", block),
            "The scale is a float16, but its two bytes were read as an integer here.",
        ),
    ),
    hints=(
        "struct can read everything in one call: e is a float16, and b a signed byte.",
        "Each weight is scale * integer, with the same scale for all 32.",
    ),
)


def _undo_interleaving(rows: Tensor, n_heads: int) -> Tensor:
    """Neighbouring pairs of rows -> in each head, the first rows of all pairs, then the second."""
    heads = rows.unflatten(0, (n_heads, -1, 2))
    return heads.transpose(1, 2).flatten(0, 2)


def _interleave(rows: Tensor, n_heads: int) -> Tensor:
    return rows.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def _second_first(rows: Tensor, n_heads: int) -> Tensor:
    return rows.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flip(1).flatten(0, 2)


def _rows(n_rows: int, width: int) -> Tensor:
    return torch.arange(n_rows * width, dtype=torch.float32).view(n_rows, width)


UNDO_INTERLEAVING = Exercise(
    id="20.undo_interleaving",
    cases=(
        (_rows(4, 1), 1),
        (_rows(8, 1), 1),
        (_rows(8, 2), 2),
        (_rows(18, 4), 3),
        (_rows(6, 3), 3),
    ),
    reference=_undo_interleaving,
    wrong_answers=(
        WrongAnswer(
            lambda rows, n_heads: _undo_interleaving(rows, 1),
            "Rows have moved to another head. Reorder within each head, not the whole matrix.",
        ),
        WrongAnswer(
            _interleave,
            "This is the opposite conversion: it makes the two rows of each pair neighbours.",
        ),
        WrongAnswer(
            lambda rows, n_heads: rows,
            "Nothing is reordered. All shapes fit, but the model's attention would be wrong.",
        ),
        WrongAnswer(
            _second_first,
            "The second rows of the pairs come first here, so every rotation would turn backwards.",
        ),
    ),
    hints=(
        "Take one head of 4 rows: 0 and 1 are a pair, and so are 2 and 3. What is our order?",
        "head[0::2] has the first rows of all pairs of a head, and head[1::2] the second rows.",
    ),
)

_PARTS = {
    "attention_norm": ("attn_norm",),
    "attention.qkv": ("attn_q", "attn_k", "attn_v"),
    "attention.out": ("attn_output",),
    "feedforward_norm": ("ffn_norm",),
    "feedforward.gate": ("ffn_gate",),
    "feedforward.up": ("ffn_up",),
    "feedforward.down": ("ffn_down",),
}
_OUTSIDE = {"embedding.weight": "token_embd.weight", "final_norm.weight": "output_norm.weight"}


def _gguf_names(name: str) -> list[str]:
    """What the tensor `name` is called in a GGUF file of the architecture llama."""
    if name in _OUTSIDE:
        return [_OUTSIDE[name]]
    _, number, part = name.removesuffix(".weight").split(".", 2)
    return [f"blk.{number}.{theirs}.weight" for theirs in _PARTS[part]]


def _one_matrix(name: str) -> list[str]:
    theirs = _gguf_names(name)
    return [theirs[0].replace("attn_q.", "attn_qkv.")]


def _from_one(name: str) -> list[str]:
    words = name.split(".")
    if words[0] == "blocks":
        words[1] = str(int(words[1]) + 1)
    return _gguf_names(".".join(words))


def _one_digit(name: str) -> list[str]:
    words = name.split(".")
    if words[0] == "blocks":
        words[1] = words[1][0]
    return _gguf_names(".".join(words))


GGUF_NAMES = Exercise(
    id="20.gguf_names",
    cases=(
        ("embedding.weight",),
        ("final_norm.weight",),
        ("blocks.0.attention_norm.weight",),
        ("blocks.0.attention.qkv.weight",),
        ("blocks.3.attention.out.weight",),
        ("blocks.1.feedforward_norm.weight",),
        ("blocks.29.feedforward.gate.weight",),
        ("blocks.12.feedforward.down.weight",),
        ("blocks.8.feedforward.up.weight",),
    ),
    reference=_gguf_names,
    wrong_answers=(
        WrongAnswer(
            _one_matrix,
            "Queries, keys and values are three tensors in the file, so three names are needed.",
        ),
        WrongAnswer(
            _from_one,
            "Blocks are numbered from 0 in both places: blocks.0 is blk.0.",
        ),
        WrongAnswer(
            _one_digit,
            "Only the first digit of the block's number is used: block 12 has become block 1.",
        ),
        WrongAnswer(
            lambda name: [theirs.removesuffix(".weight") for theirs in _gguf_names(name)],
            "A name in the file ends in .weight, as ours does.",
        ),
        WrongAnswer(
            lambda name: _gguf_names(name)[::-1],
            "The order matters: the rows are stacked as listed, so queries, keys, values.",
        ),
    ),
    hints=(
        "The two names without a block are special cases. What parts do all others have?",
        'name.split(".", 2) leaves the third part whole: "attention.qkv.weight".',
    ),
)


def _chat_text(messages: list[dict[str, str]]) -> str:
    """The conversation in the form ChatML, up to the beginning of the assistant's answer."""
    turns = [f"<|im_start|>{one['role']}\n{one['content']}<|im_end|>\n" for one in messages]
    return "".join(turns) + "<|im_start|>assistant\n"


_HELLO = [{"role": "user", "content": "Hello"}]
_TALK = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "Is the sea\nblue?"},
    {"role": "assistant", "content": "Often."},
    {"role": "user", "content": "And at night?"},
]

CHAT_TEXT = Exercise(
    id="20.chat_text",
    cases=((_HELLO,), (_TALK[:2],), (_TALK,)),
    reference=_chat_text,
    wrong_answers=(
        WrongAnswer(
            lambda messages: _chat_text(messages).removesuffix("<|im_start|>assistant\n"),
            "The assistant's turn isn't begun: the model might continue as the user instead.",
        ),
        WrongAnswer(
            lambda messages: _chat_text(messages) + "<|im_end|>\n",
            "The assistant's turn is already ended. The model itself should write the end token.",
        ),
        WrongAnswer(
            lambda messages: _chat_text(messages).replace("<|im_end|>\n", "\n"),
            "The turns aren't ended: each message must be followed by <|im_end|>.",
        ),
        WrongAnswer(
            lambda messages: _chat_text(messages).replace("<|im_end|>\n", "<|im_end|>"),
            "The newline after <|im_end|> is missing. In training it was always there.",
        ),
        WrongAnswer(
            lambda messages: _chat_text(messages).removesuffix("\n"),
            "The newline after the last role is missing, so the model would have to write it.",
        ),
        WrongAnswer(
            lambda messages: _chat_text(messages[-1:]),
            "Only the last message is there. The model knows earlier turns only from this text.",
        ),
    ),
    hints=(
        "A turn is <|im_start|>, the role, a newline, the content, <|im_end|>, a newline.",
        "The text ends with the first line of the assistant's turn, newline included.",
    ),
)


def _speed_bound(
    n_parameters: int, n_table: int, tied: bool, bits: float, bandwidth: float
) -> float:
    """Tokens per second if only reading all weights once per token takes time."""
    n_read = n_parameters if tied else n_parameters - n_table
    return bandwidth / (n_read * bits / 8)


SPEED_BOUND = Exercise(
    id="20.speed_bound",
    cases=(
        (100, 20, True, 8, 1000.0),
        (120, 20, False, 8, 1000.0),
        (134_515_008, 28_311_552, True, 32, 10e9),
        (7_241_732_096, 131_072_000, False, 4.5, 50e9),
    ),
    reference=_speed_bound,
    wrong_answers=(
        WrongAnswer(
            lambda n, n_table, tied, *rest: _speed_bound(n, n_table, False, *rest),
            "A tied embedding is also the head, and the head reads all of it for every token.",
        ),
        WrongAnswer(
            lambda n, n_table, tied, *rest: _speed_bound(n, n_table, True, *rest),
            "If it isn't tied, only one row of the embedding is read per token: leave it out.",
        ),
        WrongAnswer(
            lambda n, n_table, tied, *rest: _speed_bound(n, n_table, not tied, *rest),
            "It is the other way round: all of a tied table is read, but one row of an untied one.",
        ),
        WrongAnswer(
            lambda *arguments: _speed_bound(*arguments) / 8,
            "The bandwidth is in bytes, the size of a weight in bits: divide the bits by 8.",
        ),
        WrongAnswer(
            lambda *arguments: 1 / _speed_bound(*arguments),
            "This is the time per token, in seconds. Return the number of tokens per second.",
        ),
    ),
    hints=(
        "How many weights are read for one token? How many bytes is that?",
        "Bytes per second, divided by bytes per token, gives tokens per second.",
    ),
)

EXERCISES = (
    READ_HEADER,
    DEQUANTIZE_Q8_0,
    UNDO_INTERLEAVING,
    GGUF_NAMES,
    CHAT_TEXT,
    SPEED_BOUND,
)
