"""The exercises of lesson 22: fine-tuning."""

import math

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer

IGNORE = -100
Turns = list[tuple[str, list[int]]]


def _chat_targets(turns: Turns) -> list[int]:
    """The next token of each but the last; those that nobody but the assistant says are -100."""
    targets = []
    for role, ids in turns:
        targets += ids if role == "assistant" else [IGNORE] * len(ids)
    return targets[1:]


def _all_learned(turns: Turns) -> list[int]:
    return [id for _, ids in turns for id in ids][1:]


def _no_end(turns: Turns) -> list[int]:
    return _chat_targets(
        [part for role, ids in turns for part in ((role, ids[:-1]), ("end", ids[-1:]))]
    )


def _not_shifted(turns: Turns) -> list[int]:
    return _chat_targets([("start", [0]), *turns])


def _mask_not_shifted(turns: Turns) -> list[int]:
    flags = [role == "assistant" for role, ids in turns for _ in ids]
    pairs = zip(_all_learned(turns), flags, strict=False)
    return [id if flag else IGNORE for id, flag in pairs]


def _last_answer(turns: Turns) -> list[int]:
    last = max(i for i, (role, _) in enumerate(turns) if role == "assistant")
    return _chat_targets([(role if i == last else "", ids) for i, (role, ids) in enumerate(turns)])


CHAT_TARGETS = Exercise(
    id="22.chat_targets",
    cases=(
        ([("user", [5, 6, 2]), ("assistant", [7, 2])],),
        ([("user", [5, 2]), ("assistant", [7, 8, 2]), ("user", [6, 2]), ("assistant", [9, 2])],),
        ([("user", [4, 2]), ("user", [5, 3, 2]), ("assistant", [6, 2])],),
        ([("user", [9, 8, 2]), ("assistant", [4, 2]), ("user", [7, 2]), ("assistant", [1, 3, 2])],),
    ),
    reference=_chat_targets,
    wrong_answers=(
        WrongAnswer(
            _all_learned,
            "What the user says is learned as well: the model will ask itself the next question.",
        ),
        WrongAnswer(
            _no_end,
            "The end tokens of the answers are ignored. A model trained on this never stops.",
        ),
        WrongAnswer(
            _not_shifted,
            "The targets are not shifted: at each position the model would learn to repeat what "
            "it just read. The target is the token after it.",
        ),
        WrongAnswer(
            _mask_not_shifted,
            "Tokens are shifted, but the mask isn't. Whether a target counts depends on who says "
            "the target, not on who says the input.",
        ),
        WrongAnswer(
            _last_answer,
            "Only the last answer is learned; the earlier ones are the assistant's words too.",
        ),
        WrongAnswer(
            lambda turns: [*_chat_targets(turns), IGNORE],
            "There is one target too many: after the last token nothing comes.",
        ),
    ),
    hints=(
        "Write all tokens in one row and note below each who says it. Which token is the target "
        "of the first position?",
        "Make a row in which the user's tokens are -100. What is left to do is the shift.",
    ),
)

CHATML_1 = (
    "<|im_start|> user \\n Hi <|im_end|> \\n <|im_start|> assistant \\n Hello ! <|im_end|> \\n"
)
CHATML_2 = CHATML_1 + " " + CHATML_1.replace("Hi", "Why ?").replace("Hello !", "Because .")
CHATML_3 = "<|im_start|> system \\n Be brief <|im_end|> \\n " + CHATML_1
CHATML_4 = CHATML_1.replace("Hi", "Say assistant \\n please") + " " + CHATML_1


def _loss_tokens(tokens: list[str]) -> list[bool]:
    """The words of each answer and the <|im_end|> behind them."""
    said, role = [], ""
    for place, token in enumerate(tokens):
        if token == "<|im_start|>":
            role, first = tokens[place + 1], place + 3
        said.append(role == "assistant" and place >= first)
        if token == "<|im_end|>":
            role = ""
    return said


def _without_ends(tokens: list[str]) -> list[bool]:
    pairs = zip(tokens, _loss_tokens(tokens), strict=True)
    return [flag and token != "<|im_end|>" for token, flag in pairs]


def _turns(tokens: list[str], role: str) -> list[bool]:
    said, now = [], ""
    for place, token in enumerate(tokens):
        if token == "<|im_start|>":
            now = tokens[place + 1]
        said.append(now == role)
    return said


def _with_header(tokens: list[str]) -> list[bool]:
    line_breaks = [i > 0 and tokens[i - 1] == "<|im_end|>" for i in range(len(tokens))]
    pairs = zip(_turns(tokens, "assistant"), line_breaks, strict=True)
    return [turn and not line_break for turn, line_break in pairs]


def _with_line_break(tokens: list[str]) -> list[bool]:
    said = _loss_tokens(tokens)
    return [flag or (i > 0 and said[i - 1]) for i, flag in enumerate(said)]


def _after_first(tokens: list[str]) -> list[bool]:
    first = _loss_tokens(tokens).index(True)
    return [i >= first for i in range(len(tokens))]


def _by_search(tokens: list[str]) -> list[bool]:
    said, inside = [], False
    for place, token in enumerate(tokens):
        inside = inside or tokens[max(place - 2, 0) : place] == ["assistant", "\\n"]
        said.append(inside)
        inside = inside and token != "<|im_end|>"
    return said


LOSS_TOKENS = Exercise(
    id="22.loss_tokens",
    cases=tuple((text.split(" "),) for text in (CHATML_1, CHATML_2, CHATML_3, CHATML_4)),
    reference=_loss_tokens,
    wrong_answers=(
        WrongAnswer(
            _without_ends,
            "The <|im_end|> of the answers is missing. It is how the model says that it is done.",
        ),
        WrongAnswer(
            lambda tokens: [
                any(flags)
                for flags in zip(
                    _loss_tokens(tokens),
                    _loss_tokens([{"user": "assistant"}.get(t, t) for t in tokens]),
                    strict=True,
                )
            ],
            "The user's words count in the loss here. They are read, not learned.",
        ),
        WrongAnswer(
            _with_header,
            "The three tokens that open an answer are written by the template, in every chat. The "
            "model never has to produce them.",
        ),
        WrongAnswer(
            _with_line_break,
            "The line break behind <|im_end|> is marked. The chat has ended the answer by then.",
        ),
        WrongAnswer(
            _after_first,
            "Everything from the first answer on is marked, the user's second question too.",
        ),
        WrongAnswer(
            _by_search,
            "The answer was found by searching for the role's name, and a user may write that "
            "name. A turn begins with <|im_start|>.",
        ),
    ),
    hints=(
        "Which tokens does the model itself write in a chat, until the program stops it?",
        "Remember whose turn it is: that changes at each <|im_start|> and ends at <|im_end|>.",
    ),
)


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).round(decimals=2)


def _lora_delta(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """(alpha / rank) B A."""
    rank = a.shape[0]
    return alpha / rank * (b @ a)


LORA_DELTA = Exercise(
    id="22.lora_delta",
    cases=(
        (torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]]), 2.0),
        (_random(2, 3, seed=0), _random(3, 2, seed=1), 6.0),
        (_random(3, 6, seed=2), _random(5, 3, seed=3), 12.0),
        (_random(2, 4, seed=4), _random(6, 2, seed=5), 1.0),
    ),
    reference=_lora_delta,
    wrong_answers=(
        WrongAnswer(
            lambda a, b, alpha: b @ a,
            "The factor is missing: the product is multiplied by alpha / rank.",
        ),
        WrongAnswer(
            lambda a, b, alpha: alpha * b @ a,
            "It is multiplied by alpha, but not divided by the rank.",
        ),
        WrongAnswer(
            lambda a, b, alpha: _lora_delta(a, b, alpha).T,
            "This is the transpose, A^T B^T: x meets A first, and then B, so the matrix is B A.",
        ),
        WrongAnswer(
            lambda a, b, alpha: alpha / a.shape[1] * b @ a,
            "It is divided by D, the number of columns of A. The rank is the number of its rows.",
        ),
        WrongAnswer(
            lambda a, b, alpha: alpha / math.sqrt(a.shape[0]) * b @ a,
            "It is divided by the square root of the rank. There is such a variant; here it is "
            "the rank itself.",
        ),
    ),
    hints=(
        "Which product of A (r, D) and B (V, r) has the shape of the weight, (V, D)?",
        "The rank can be read off the shape of either matrix.",
    ),
)

Shapes = list[tuple[int, int]]


def _count_trainable(shapes: Shapes, rank: int) -> int:
    """A has rank * D numbers, B has V * rank."""
    total = 0
    for n_rows, n_columns in shapes:
        total += rank * n_columns + n_rows * rank
    return total


COUNT_TRAINABLE = Exercise(
    id="22.count_trainable",
    cases=(
        ([(3, 2)], 1),
        ([(5, 7)], 3),
        ([(192, 192), (512, 192), (192, 512)], 4),
        ([(320, 192), (192, 192), (192, 192)], 8),
    ),
    reference=_count_trainable,
    wrong_answers=(
        WrongAnswer(
            lambda shapes, rank: sum(v * d for v, d in shapes),
            "These are the weights themselves. They stay as they are; count the numbers of A and "
            "B.",
        ),
        WrongAnswer(
            lambda shapes, rank: sum(rank * v * d for v, d in shapes),
            "V and D are multiplied. A and B lie beside the weight, so their sizes add up.",
        ),
        WrongAnswer(
            lambda shapes, rank: sum(v + d for v, d in shapes),
            "The rank is missing: A has `rank` rows, and B has `rank` columns.",
        ),
        WrongAnswer(
            lambda shapes, rank: sum(rank * d for _, d in shapes),
            "Only A is counted. B starts with zeros, but it is trained all the same.",
        ),
        WrongAnswer(
            lambda shapes, rank: _count_trainable(shapes, rank) + sum(v * d for v, d in shapes),
            "The frozen weights are counted too; they get no gradient.",
        ),
        WrongAnswer(
            lambda shapes, rank: _count_trainable(sorted(set(shapes)), rank),
            "Layers of the same shape are counted once; each has an adapter of its own.",
        ),
    ),
    hints=(
        "Draw one weight matrix (V, D), with B to its left and A above it.",
        "How many numbers has A? How many has B? Add them, and then add over the layers.",
    ),
)


def _pad_targets(rows: list[list[int]], lengths: list[int]) -> list[list[int]]:
    """-100 from each row's own length on; whatever stands before is kept."""
    kept = []
    for row, length in zip(rows, lengths, strict=True):
        kept.append([id if place < length else IGNORE for place, id in enumerate(row)])
    return kept


def _until_first_end(rows: list[list[int]], lengths: list[int]) -> list[list[int]]:
    return _pad_targets(rows, [row.index(0) + 1 for row in rows])


PAD_TARGETS = Exercise(
    id="22.pad_targets",
    cases=(
        ([[5, 6, 0, 0]], [3]),
        ([[5, 0, 0, 0], [6, 7, 8, 0]], [2, 4]),
        ([[5, 0, 6, 0, 0], [7, 0, 0, 0, 0]], [4, 2]),
        ([[9, 8, 0, 7, 0, 0, 0], [4, 0, 5, 6, 2, 3, 0]], [5, 7]),
    ),
    reference=_pad_targets,
    wrong_answers=(
        WrongAnswer(
            lambda rows, lengths: [[IGNORE if id == 0 else id for id in row] for row in rows],
            "Every 0 is ignored, and with the padding the ends of the answers. This is the model "
            "that never stops.",
        ),
        WrongAnswer(
            lambda rows, lengths: [list(row) for row in rows],
            "Nothing is ignored: the model would learn to write one end after another.",
        ),
        WrongAnswer(
            lambda rows, lengths: _pad_targets(rows, [n - 1 for n in lengths]),
            "One token too few is kept: the last real one is the end, and it must be learned.",
        ),
        WrongAnswer(
            _until_first_end,
            "The rows are cut at their first 0. A conversation of several turns has several ends.",
        ),
        WrongAnswer(
            lambda rows, lengths: _pad_targets(rows, [n + 1 for n in lengths]),
            "One padding token is kept in the rows that have any.",
        ),
    ),
    hints=(
        "The id alone can't tell an end from padding. What else do you know of each row?",
        "Go by the place of a token, and compare it with the length of its row.",
    ),
)

Adapter = tuple[Tensor, Tensor, float]


def _switch(weight: Tensor, old: Adapter, new: Adapter) -> Tensor:
    """Take the old adapter's product off, and add the new one's."""
    return weight - _lora_delta(*old) + _lora_delta(*new)


def _adapter(n_rows: int, n_columns: int, rank: int, alpha: float, seed: int) -> Adapter:
    return _random(rank, n_columns, seed=seed), _random(n_rows, rank, seed=seed + 1), alpha


SWITCH = Exercise(
    id="22.switch",
    cases=(
        (torch.eye(2), _adapter(2, 2, 1, 2.0, 10), _adapter(2, 2, 1, 2.0, 20)),
        (_random(3, 4, seed=6), _adapter(3, 4, 2, 4.0, 30), _adapter(3, 4, 1, 3.0, 40)),
        (_random(5, 3, seed=7), _adapter(5, 3, 1, 1.0, 50), _adapter(5, 3, 3, 6.0, 60)),
    ),
    reference=_switch,
    wrong_answers=(
        WrongAnswer(
            lambda weight, old, new: weight + _lora_delta(*new),
            "The old adapter is still in the weight; both are at work now.",
        ),
        WrongAnswer(
            lambda weight, old, new: weight - _lora_delta(*old),
            "This is the base alone: the new adapter is not merged in yet.",
        ),
        WrongAnswer(
            lambda weight, old, new: weight + _lora_delta(*old) + _lora_delta(*new),
            "The old adapter is added once more. It was merged by adding, so take it off.",
        ),
        WrongAnswer(
            lambda weight, old, new: _switch(weight, new, old),
            "Old and new are exchanged: the new one is taken off, the old one is added again.",
        ),
        WrongAnswer(
            lambda weight, old, new: weight - old[1] @ old[0] + new[1] @ new[0],
            "The products are right, but each has its factor alpha / rank.",
        ),
        WrongAnswer(
            lambda weight, old, new: _switch(weight, old, (new[0], new[1], old[2])),
            "Each adapter has an alpha of its own; here the old one's is used for both.",
        ),
    ),
    hints=(
        "What was the weight before the old adapter was merged into it?",
        "Merging adds a matrix. Two adapters may differ in rank and in alpha.",
    ),
)

EXERCISES = (CHAT_TARGETS, LOSS_TOKENS, LORA_DELTA, COUNT_TRAINABLE, PAD_TARGETS, SWITCH)
