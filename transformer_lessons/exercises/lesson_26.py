"""The exercises of lesson 26: shipping a model."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer

Rows = list[tuple[str, int, int]]


def _offsets(sizes: Sequence[int], alignment: int) -> list[int]:
    """Where each tensor begins, counted from the beginning of the data."""
    offsets, place = [], 0
    for size in sizes:
        offsets.append(place)
        place += -(-size // alignment) * alignment
    return offsets


def _packed_offsets(sizes: Sequence[int], alignment: int) -> list[int]:
    return [sum(sizes[:i]) for i in range(len(sizes))]


def _always_padded(sizes: Sequence[int], alignment: int) -> list[int]:
    return _offsets([size + 1 for size in sizes], alignment)


def _rounded_down(sizes: Sequence[int], alignment: int) -> list[int]:
    return [start // alignment * alignment for start in _packed_offsets(sizes, alignment)]


def _padded_at_the_end(sizes: Sequence[int], alignment: int) -> list[int]:
    return [-(-start // alignment) * alignment for start in _packed_offsets(sizes, alignment)]


TENSOR_OFFSETS = Exercise(
    id="26.tensor_offsets",
    cases=(
        ([34, 64, 10], 32),
        ([34, 34, 34], 32),
        ([128, 18, 40, 68], 64),
        ([5, 1, 6], 4),
    ),
    reference=_offsets,
    wrong_answers=(
        WrongAnswer(
            _packed_offsets,
            "The tensors follow each other without gaps. Each has to begin at a multiple of the "
            "alignment.",
        ),
        WrongAnswer(
            _always_padded,
            "A tensor that already ends at a multiple of the alignment gets padding too. It needs "
            "none.",
        ),
        WrongAnswer(
            _rounded_down,
            "The offsets are rounded down: a tensor would begin inside the one before.",
        ),
        WrongAnswer(
            _padded_at_the_end,
            "The sum of all sizes is rounded up. But the gaps before have moved the tensor "
            "already: round up after each one.",
        ),
        WrongAnswer(
            lambda sizes, alignment: [
                *_offsets(sizes, alignment)[1:],
                _offsets([*sizes, 1], alignment)[-1],
            ],
            "This is where each tensor's place ends. The first one begins at 0.",
        ),
    ),
    hints=(
        "Keep one number, the place where the next tensor begins, and write it down before you "
        "move it.",
        "How many multiples of the alignment does a size need? Use a division that rounds up.",
    ),
)


def _interleave(weight: Tensor, n_heads: int) -> Tensor:
    """Rows of the split layout in the order of the interleaved one, head by head."""
    return weight.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def _split(weight: Tensor, n_heads: int) -> Tensor:
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _by_columns(weight: Tensor, n_heads: int) -> Tensor:
    return _interleave(weight.T, n_heads).T.contiguous()


def _matrix(n_rows: int, n_columns: int) -> Tensor:
    return torch.arange(float(n_rows * n_columns)).view(n_rows, n_columns)


INTERLEAVE_ROWS = Exercise(
    id="26.interleave_rows",
    cases=(
        (_matrix(6, 6), 1),
        (_matrix(12, 12), 2),
        (_matrix(24, 24), 3),
    ),
    reference=_interleave,
    wrong_answers=(
        WrongAnswer(
            _split,
            "This is the way back, from the interleaved layout to the split one.",
        ),
        WrongAnswer(
            lambda weight, n_heads: _interleave(weight, 1),
            "The rows of all heads are mixed: number 0 of the first head got a partner from the "
            "last one. Stay within a head.",
        ),
        WrongAnswer(
            _by_columns,
            "The columns were moved. They belong to what the layer reads; the rows make queries "
            "and keys.",
        ),
        WrongAnswer(
            lambda weight, n_heads: weight,
            "The rows are as they were. A program that turns neighbours would turn the wrong "
            "pairs.",
        ),
        WrongAnswer(
            lambda weight, n_heads: (
                weight.unflatten(0, (n_heads, 2, -1)).flip(1).transpose(1, 2).flatten(0, 2)
            ),
            "In each pair the two numbers have changed places, so they would be turned backwards.",
        ),
    ),
    hints=(
        "For one head of width 6 the new order of its rows is 0, 3, 1, 4, 2, 5.",
        "Give the rows three axes: head, half, number in the half. Then two of them change places.",
    ),
)

_NAMES = {"attention.out": "attn_output", "feedforward.up": "ffn_up"}


def _rows(name: str, n_rows: int, n_kv_rows: int) -> Rows:
    """The tensors of a GGUF file that are made of one of ours, and their rows of it."""
    _, number, rest = name.split(".", 2)
    module, kind = rest.rsplit(".", 1)
    if module != "attention.qkv":
        return [(f"blk.{number}.{_NAMES[module]}.{kind}", 0, n_rows)]
    ends = (0, n_rows - 2 * n_kv_rows, n_rows - n_kv_rows, n_rows)
    return [
        (f"blk.{number}.attn_{letter}.{kind}", start, end)
        for letter, start, end in zip("qkv", ends[:-1], ends[1:], strict=True)
    ]


def _thirds(name: str, n_rows: int, n_kv_rows: int) -> Rows:
    return _rows(name, n_rows, n_rows // 3)


def _counted(name: str, n_rows: int, n_kv_rows: int) -> Rows:
    return [(theirs, start, end - start) for theirs, start, end in _rows(name, n_rows, n_kv_rows)]


def _weights_only(name: str, n_rows: int, n_kv_rows: int) -> Rows:
    return _rows(f"{name.rsplit('.', 1)[0]}.weight", n_rows, n_kv_rows)


def _first_block(name: str, n_rows: int, n_kv_rows: int) -> Rows:
    return _rows(".".join(["blocks", "0", *name.split(".")[2:]]), n_rows, n_kv_rows)


def _keys_last(name: str, n_rows: int, n_kv_rows: int) -> Rows:
    rows = _rows(name, n_rows, n_kv_rows)
    if len(rows) == 1:
        return rows
    (q, *first), (k, *second), (v, *third) = rows
    return [(q, *first), (v, *second), (k, *third)]  # type: ignore[list-item]


NAME_MAP = Exercise(
    id="26.name_map",
    cases=(
        ("blocks.0.attention.out.weight", 8, 4),
        ("blocks.3.attention.qkv.weight", 16, 4),
        ("blocks.11.attention.qkv.bias", 320, 64),
        ("blocks.27.feedforward.up.weight", 512, 64),
    ),
    reference=_rows,
    wrong_answers=(
        WrongAnswer(
            _thirds,
            "The matrix is cut into thirds. With grouped-query attention there are fewer rows of "
            "keys and values than of queries.",
        ),
        WrongAnswer(
            _counted,
            "The last number is how many rows there are. Return the row before which they end.",
        ),
        WrongAnswer(
            _weights_only,
            "A bias has become a weight: the last part of the name goes over as it is.",
        ),
        WrongAnswer(
            _first_block,
            "Every block writes to the names of block 0.",
        ),
        WrongAnswer(
            _keys_last,
            "Keys and values have changed places. Our rows are queries, keys, values.",
        ),
        WrongAnswer(
            lambda name, n_rows, n_kv_rows: [(row[0], 0, n_rows) for row in _rows(name, n_rows, 1)],
            "Every tensor gets all rows. Queries, keys and values share the rows of our matrix.",
        ),
    ),
    hints=(
        "Cut the name at its dots. The second part is the block, the last one the kind.",
        "Keys and values have n_kv_rows rows each. How many does that leave to the queries?",
    ),
)

Tensors = dict[str, Tensor]
EMBEDDING, HEAD = "embedding.weight", "head.weight"


def _tie_or_copy(tensors: Mapping[str, Tensor], is_tied: bool, can_tie: bool) -> Tensors:
    """The tensors to write: a tied head is left out, or copied where the format can't tie."""
    written = {name: tensor for name, tensor in tensors.items() if name != HEAD or not is_tied}
    return written | {HEAD: tensors[EMBEDDING].clone()} if is_tied and not can_tie else written


def _without_head(tensors: Mapping[str, Tensor], is_tied: bool, can_tie: bool) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name != HEAD}


def _always_copied(tensors: Mapping[str, Tensor], is_tied: bool, can_tie: bool) -> Tensors:
    return {**tensors, HEAD: tensors.get(HEAD, tensors[EMBEDDING])}


def _by_value(tensors: Mapping[str, Tensor], is_tied: bool, can_tie: bool) -> Tensors:
    looks_tied = HEAD not in tensors or torch.equal(tensors[HEAD], tensors[EMBEDDING])
    return _tie_or_copy(tensors, looks_tied, can_tie)


def _transposed(tensors: Mapping[str, Tensor], is_tied: bool, can_tie: bool) -> Tensors:
    written = _tie_or_copy(tensors, is_tied, can_tie)
    return {**written, HEAD: written[HEAD].T} if is_tied and not can_tie else written


_TABLE = torch.arange(6.0).view(3, 2)
_NORM = torch.ones(2)

TIE_OR_COPY = Exercise(
    id="26.tie_or_copy",
    cases=(
        ({EMBEDDING: _TABLE}, True, True),
        ({EMBEDDING: _TABLE, "final_norm.weight": _NORM}, True, False),
        ({EMBEDDING: _TABLE, HEAD: _TABLE * 2}, False, True),
        ({EMBEDDING: _TABLE, HEAD: _TABLE.clone()}, False, True),
        ({EMBEDDING: _TABLE, HEAD: _TABLE * 2}, False, False),
        ({EMBEDDING: _TABLE, HEAD: _TABLE}, True, True),
    ),
    reference=_tie_or_copy,
    wrong_answers=(
        WrongAnswer(
            _without_head,
            "The head is always left out. An untied one has numbers of its own, and a format "
            "that can't tie needs it as well.",
        ),
        WrongAnswer(
            _always_copied,
            "The head is always written. Where the format can tie, a file without it says that "
            "the two are one, and is smaller.",
        ),
        WrongAnswer(
            _by_value,
            "Equal numbers are taken for a tied head. Only the configuration says that the two "
            "are one tensor: after the next training step they would differ.",
        ),
        WrongAnswer(
            _transposed,
            "The copy is transposed. Embedding and head both have a row for each token.",
        ),
        WrongAnswer(
            lambda tensors, is_tied, can_tie: dict(tensors),
            "The tensors are written as they come. A tied model may bring the head or not; the "
            "file depends on what the format can say.",
        ),
    ),
    hints=(
        "There are three cases: not tied; tied, and the format can say so; tied, and it can't.",
        "In the third case the head is the embedding, row for row.",
    ),
)

Calls = list[dict[str, list[int]]]


def _dynamic_axes(calls: Calls) -> dict[str, list[int]]:
    """The axes of each input whose sizes differ from call to call."""
    return {
        name: [axis for axis in range(len(sizes)) if len({call[name][axis] for call in calls}) > 1]
        for name, sizes in calls[0].items()
    }


def _first_two(calls: Calls) -> dict[str, list[int]]:
    return _dynamic_axes(calls[:2])


def _all_axes(calls: Calls) -> dict[str, list[int]]:
    return {name: list(range(len(sizes))) for name, sizes in calls[0].items()}


def _not_one(calls: Calls) -> dict[str, list[int]]:
    return {
        name: [axis for axis, size in enumerate(sizes) if size != 1]
        for name, sizes in calls[0].items()
    }


def _together(calls: Calls) -> dict[str, list[int]]:
    axes = sorted({axis for found in _dynamic_axes(calls).values() for axis in found})
    return {name: [a for a in axes if a < len(sizes)] for name, sizes in calls[0].items()}


def _without_empty(calls: Calls) -> dict[str, list[int]]:
    return {name: axes for name, axes in _dynamic_axes(calls).items() if axes}


DYNAMIC_AXES = Exercise(
    id="26.dynamic_axes",
    cases=(
        ([{"tokens": [1, 5]}, {"tokens": [1, 1]}],),
        (
            [
                {"tokens": [1, 5], "past": [2, 6, 1, 2, 0, 32], "scale": [1]},
                {"tokens": [1, 1], "past": [2, 6, 1, 2, 5, 32], "scale": [1]},
                {"tokens": [4, 1], "past": [2, 6, 4, 2, 9, 32], "scale": [1]},
            ],
        ),
        ([{"image": [3, 224, 224], "ids": [7]}, {"image": [3, 224, 224], "ids": [7]}],),
    ),
    reference=_dynamic_axes,
    wrong_answers=(
        WrongAnswer(
            _first_two,
            "Only the first two calls are compared. A size may change later.",
        ),
        WrongAnswer(
            _all_axes,
            "Every axis is dynamic. A size that the weights fix can't change, and a fixed one "
            "helps whoever runs the graph.",
        ),
        WrongAnswer(
            _not_one,
            "Axes of size 1 are called fixed, all others dynamic. A batch of 1 can grow, and a "
            "width of 32 stays.",
        ),
        WrongAnswer(
            _together,
            "What changes in one input is called dynamic in all of them. Axis 1 of the tokens and "
            "axis 1 of the cache have nothing in common.",
        ),
        WrongAnswer(
            _without_empty,
            "An input whose sizes never change is left out. Its list is empty.",
        ),
    ),
    hints=(
        "Collect the sizes of one axis over all calls. When is there more than one?",
        "A set keeps each size once. Do this for every input and every axis of it.",
    ),
)

EXERCISES = (TENSOR_OFFSETS, INTERLEAVE_ROWS, NAME_MAP, TIE_OR_COPY, DYNAMIC_AXES)
