"""The exercises of lesson 14: checkpoints that survive anything."""

import json
import struct
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _after_power_cut(steps: Sequence[str]) -> list[bool]:
    """Whether the name may stand for a broken, the new, the old file when the power goes."""
    place = {step: number for number, step in enumerate(steps)}
    if "rename" not in place:
        return [False, False, True]
    content_is_safe = place.get("sync file", -1) > place["write"]
    name_is_safe = place.get("sync folder", -1) > place["rename"]
    return [not content_is_safe, True, not name_is_safe]


def _rename_is_enough(steps: Sequence[str]) -> list[bool]:
    return [False, "rename" in steps, "rename" not in steps]


def _order_is_nothing(steps: Sequence[str]) -> list[bool]:
    order = ("write", "sync file", "rename", "sync folder")
    return _after_power_cut([step for step in order if step in steps])


def _file_sync_is_all(steps: Sequence[str]) -> list[bool]:
    broken, new, old = _after_power_cut(steps)
    return [broken, new, old and not (new and not broken)]


def _folder_sync_is_all(steps: Sequence[str]) -> list[bool]:
    broken, new, old = _after_power_cut(steps)
    return [broken and old, new, old]


def _nothing_arrives_unasked(steps: Sequence[str]) -> list[bool]:
    broken, new, old = _after_power_cut(steps)
    return [broken and not old, new and not old and not broken, old]


AFTER_POWER_CUT = Exercise(
    id="14.after_power_cut",
    cases=(
        (["write"],),
        (["write", "rename"],),
        (["write", "sync file"],),
        (["write", "sync file", "rename"],),
        (["write", "rename", "sync folder"],),
        (["write", "rename", "sync file"],),
        (["sync file", "write", "rename"],),
        (["write", "sync folder", "sync file", "rename"],),
        (["write", "rename", "sync file", "sync folder"],),
        (["write", "sync file", "rename", "sync folder"],),
    ),
    reference=_after_power_cut,
    wrong_answers=(
        WrongAnswer(
            _rename_is_enough,
            "A rename is atomic as long as the system runs. Without a sync, neither the name nor "
            "the content need have reached the disk.",
        ),
        WrongAnswer(
            _order_is_nothing,
            "A sync affects what was done before it. This checks only whether it occurs at all.",
        ),
        WrongAnswer(
            _file_sync_is_all,
            "Syncing the file saves its content. The new name belongs to the folder and is still "
            "in memory, so the old one may come back.",
        ),
        WrongAnswer(
            _folder_sync_is_all,
            "Syncing the folder saves its names, not the content of the file.",
        ),
        WrongAnswer(
            _nothing_arrives_unasked,
            "What is not synced may still have reached the disk: the system may write at any time.",
        ),
    ),
    hints=(
        "Ask two questions: which name is on the disk, and is the content it refers to complete?",
        "Before the rename, nobody sees the new file. After it, the new one is always possible; "
        "each of the two syncs, if it comes late enough, rules out one of the other two.",
    ),
)


def _read_tensor(data: bytes, name: str) -> list[float]:
    """The numbers of the tensor `name` in the bytes of a safetensors file."""
    return _read_from(data, name)


def _read_from(data: bytes, name: str, *, base: int = 8, with_header: bool = True) -> list[float]:
    length = struct.unpack("<Q", data[:8])[0]
    first, end = json.loads(data[8 : 8 + length])[name]["data_offsets"]
    start = base + (length if with_header else 0)
    numbers = data[start + first : start + end]
    return list(struct.unpack(f"<{len(numbers) // 4}f", numbers))


def _read_big_endian(data: bytes, name: str) -> list[float]:
    numbers = _read_tensor(data, name)
    return list(struct.unpack(f">{len(numbers)}f", struct.pack(f"<{len(numbers)}f", *numbers)))


def _read_to_the_end(data: bytes, name: str) -> list[float]:
    length = struct.unpack("<Q", data[:8])[0]
    first, _ = json.loads(data[8 : 8 + length])[name]["data_offsets"]
    numbers = data[8 + length + first :]
    return list(struct.unpack(f"<{len(numbers) // 4}f", numbers))


def _read_first(data: bytes, name: str) -> list[float]:
    length = struct.unpack("<Q", data[:8])[0]
    first, end = json.loads(data[8 : 8 + length])[name]["data_offsets"]
    return list(struct.unpack(f"<{(end - first) // 4}f", data[8 + length :][: end - first]))


ONE = save({"bias": torch.tensor([1.0, -2.5])})
TWO = save({"weight": torch.tensor([[0.5, 0.25], [3.0, -4.0]]), "bias": torch.tensor([7.0])})

READ_TENSOR = Exercise(
    id="14.read_tensor",
    cases=((ONE, "bias"), (TWO, "bias"), (TWO, "weight")),
    reference=_read_tensor,
    wrong_answers=(
        WrongAnswer(
            lambda data, name: _read_from(data, name, base=0),
            "This starts eight bytes too early: the length of the header comes before the header.",
        ),
        WrongAnswer(
            lambda data, name: _read_from(data, name, with_header=False),
            "data_offsets count from the end of the header, not from its beginning.",
        ),
        WrongAnswer(
            _read_big_endian,
            "The bytes of each number are in the wrong order: the least significant is first "
            "('<').",
        ),
        WrongAnswer(
            _read_to_the_end,
            "This reads to the end of the file: the second of the data_offsets says where to stop.",
        ),
        WrongAnswer(
            _read_first,
            "This always reads from the first number on: it ignores the first of the data_offsets.",
        ),
    ),
    hints=(
        "The file has three parts: 8 bytes with the length of the header, the header, and the "
        "numbers. Where do the numbers begin?",
        "json.loads also reads bytes. Cut out the bytes between the two offsets; four of them make "
        "one float.",
    ),
)


def _state_bytes(state: Any) -> int:
    """The bytes of all different tensors in a nest."""
    tensors = {id(tensor): tensor for tensor in _tensors_in(state)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _tensors_in(value: Any, kinds: tuple = (dict, list)) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, kinds):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(inner, kinds)


def _different(state: Any) -> list[Tensor]:
    return list({id(tensor): tensor for tensor in _tensors_in(state)}.values())


SHARED = torch.ones(4, 2)

STATE_BYTES = Exercise(
    id="14.state_bytes",
    cases=(
        ({"weight": torch.zeros(3), "step": 2},),
        ({"optimizers": [{"mean": torch.zeros(2, 2)}, {"mean": torch.zeros(5)}]},),
        ({"random": torch.zeros(6, dtype=torch.uint8), "half": torch.zeros(3).half()},),
        ({"embedding": SHARED, "head": SHARED, "bias": torch.zeros(2)},),
        ({"model": {"weight": torch.zeros(3, 2)}, "step": 7},),
        ({"a": {"b": [[SHARED], {"c": torch.zeros(1).double()}]}, "d": SHARED, "e": None},),
    ),
    reference=_state_bytes,
    wrong_answers=(
        WrongAnswer(
            lambda state: sum(tensor.numel() for tensor in _different(state)),
            "This counts numbers, not bytes: how many bytes does each one take?",
        ),
        WrongAnswer(
            lambda state: sum(4 * tensor.numel() for tensor in _different(state)),
            "Four bytes are right for float32 only. The state of a generator consists of "
            "single bytes.",
        ),
        WrongAnswer(
            lambda state: sum(t.numel() * t.element_size() for t in _tensors_in(state)),
            "A tensor that occurs twice is counted twice, but it is stored once.",
        ),
        WrongAnswer(
            lambda state: _state_bytes(list(_tensors_in(state, (dict,)))),
            "This walks into dictionaries but not into lists: the optimizers are in a list.",
        ),
        WrongAnswer(
            lambda state: _state_bytes({k: v for k, v in state.items() if isinstance(v, Tensor)}),
            "Only the outermost level is counted: there are tensors further inside.",
        ),
        WrongAnswer(
            lambda state: sum({t.numel() * t.element_size() for t in _different(state)}),
            "A set of sizes keeps one tensor of each size: different tensors may be equally large.",
        ),
        WrongAnswer(
            lambda state: sum(tensor.numel() for tensor in _tensors_in(state)),
            "This counts numbers, not bytes, and a tensor that occurs twice is counted twice.",
        ),
        WrongAnswer(
            lambda state: sum(len(t) * t.element_size() for t in _different(state)),
            "len is the size of the first dimension only: numel() counts all numbers.",
        ),
    ),
    hints=(
        "A structure inside a structure is the same problem again: let the function call "
        "itself, or "
        "keep a list of what still has to be examined.",
        "numel() and element_size() say how large a tensor is. To know whether you have seen it, "
        "remember its id().",
    ),
)


def _first_difference(one: Sequence[float], other: Sequence[float]) -> int:
    """The number of the first step, from 1, that is not the same; 0 if all are."""
    for step, pair in enumerate(zip_longest(one, other), start=1):
        if pair[0] != pair[1]:
            return step
    return 0


def _nearly_equal(one: Sequence[float], other: Sequence[float]) -> int:
    pairs = enumerate(zip_longest(one, other, fillvalue=1e9), start=1)
    return next((step for step, (a, b) in pairs if abs(a - b) > 1e-4), 0)


FIRST_DIFFERENCE = Exercise(
    id="14.first_difference",
    cases=(
        ([5.5], [5.5]),
        ([5.5, 4.0], [5.5, 4.25]),
        ([5.5, 4.0, 3.0], [5.5, 4.000000000000001, 2.0]),
        ([2.0, 1.0, 0.5], [2.5, 1.0, 0.5]),
        ([2.0, 1.0], [2.0, 1.0, 0.5]),
        ([2.0, 1.0, 0.5, 0.25], [2.0, 1.0]),
    ),
    reference=_first_difference,
    wrong_answers=(
        WrongAnswer(
            _nearly_equal,
            "This ignores small differences. A difference in rounding is the first sign that the "
            "runs differ.",
        ),
        WrongAnswer(
            lambda one, other: max(_first_difference(one, other) - 1, 0),
            "This counts steps from 0: then a difference in the first step looks like equal runs.",
        ),
        WrongAnswer(
            lambda one, other: _first_difference(*zip(*zip(one, other, strict=False), strict=True)),
            "This stops where the shorter run ends: zip says nothing about what is left over.",
        ),
        WrongAnswer(
            lambda one, other: (
                0 if one == other else sum(a == b for a, b in zip(one, other, strict=False)) + 1
            ),
            "This counts all equal steps, including those after the first difference.",
        ),
        WrongAnswer(
            lambda one, other: 0 if one[-1] == other[-1] else _first_difference(one, other),
            "Equal last losses do not make the runs equal.",
        ),
    ),
    hints=(
        "What should happen when one run has a loss and the other has ended?",
        "itertools.zip_longest goes on to the end of the longer one; compare with !=, not with a "
        "tolerance.",
    ),
)


def _kept_steps(steps: Sequence[int], keep: int, best_step: int) -> list[int]:
    """The `keep` newest of `steps` and the best one, sorted."""
    newest = set(sorted(steps)[-keep:])
    return sorted(newest | ({best_step} & set(steps)))


def _best_among_the_kept(steps: Sequence[int], keep: int, best_step: int) -> list[int]:
    if best_step not in steps:
        return sorted(steps)[-keep:]
    others = sorted(set(steps) - {best_step})
    return sorted([best_step, *others[max(len(others) - keep + 1, 0) :]])


def _sorted_as_text(steps: Sequence[int], keep: int, best_step: int) -> list[int]:
    newest = sorted(steps, key=str)[-keep:]
    return sorted(set(newest) | ({best_step} & set(steps)))


KEPT_STEPS = Exercise(
    id="14.kept_steps",
    cases=(
        ([5], 1, 0),
        ([10, 5, 15], 2, 15),
        ([20, 5, 10, 15], 2, 10),
        ([300, 1000, 200], 1, 200),
        ([30, 10, 20], 2, 5),
        ([4, 8], 3, 4),
    ),
    reference=_kept_steps,
    wrong_answers=(
        WrongAnswer(
            lambda steps, keep, best_step: sorted(steps)[-keep:],
            "The best one is removed as soon as it is old: a run that overfits loses its best "
            "model.",
        ),
        WrongAnswer(
            _best_among_the_kept,
            "Here the best one takes the place of one of the newest; it is kept in addition "
            "to them.",
        ),
        WrongAnswer(
            _sorted_as_text,
            "Sorted as text, 1000 comes before 300. The package writes steps with leading zeros, "
            "and still compares numbers.",
        ),
        WrongAnswer(
            lambda steps, keep, best_step: sorted({*sorted(steps)[-keep:], best_step}),
            "A best step whose checkpoint is not in the folder cannot be kept.",
        ),
        WrongAnswer(
            lambda steps, keep, best_step: sorted({*steps[-keep:]} | ({best_step} & set(steps))),
            "The list is not sorted: its last entries need not be the newest.",
        ),
    ),
    hints=(
        "Newest means the largest number. The list isn't sorted.",
        "A slice that begins at a negative index takes from the end. Then add the best one, if the "
        "folder has it, without naming it twice.",
    ),
)


def _lost_share(tau: float, delta: float, between: float) -> float:
    """The share of time that saving takes, and that crashes destroy."""
    saving, repeated = delta / tau, tau / 2 / between
    return saving + repeated


LOST_SHARE = Exercise(
    id="14.lost_share",
    cases=((100.0, 1.0, 1000.0), (600.0, 30.0, 11_000.0), (60.0, 30.0, 86_400.0)),
    reference=_lost_share,
    wrong_answers=(
        WrongAnswer(
            lambda tau, delta, between: delta / tau + tau / between,
            "A crash comes anywhere between two saves: on average it destroys half of the "
            "interval, not all of it.",
        ),
        WrongAnswer(
            lambda tau, delta, between: tau / 2 / between,
            "The time for saving is missing: by this formula one would save without end.",
        ),
        WrongAnswer(
            lambda tau, delta, between: delta / tau,
            "The work that crashes destroy is missing: by this formula one would never save.",
        ),
        WrongAnswer(
            lambda tau, delta, between: delta / tau + delta / between,
            "A crash costs the work since the last save, not another save.",
        ),
        WrongAnswer(
            lambda tau, delta, between: delta + tau / 2,
            "These are seconds for one save and one crash. Divide each by the time between "
            "two of them.",
        ),
    ),
    hints=(
        "Saving costs its own seconds once in every interval. What share of the time is that?",
        "On average, a crash comes in the middle of an interval. Divide what that costs by "
        "the time "
        "between two crashes.",
    ),
    tolerance=1e-9,
)

EXERCISES = (
    AFTER_POWER_CUT,
    READ_TENSOR,
    STATE_BYTES,
    FIRST_DIFFERENCE,
    KEPT_STEPS,
    LOST_SHARE,
)
