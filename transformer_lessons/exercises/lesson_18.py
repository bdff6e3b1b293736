"""The exercises of lesson 18: the KV cache."""

from collections.abc import Sequence

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _tokens_read(n_prompt: int, n_new: int) -> list[int]:
    """Tokens that go through the model for `n_new` new ones: without a cache, and with one."""
    without = n_new * n_prompt + n_new * (n_new - 1) // 2
    return [without, n_prompt + n_new - 1]


TOKENS_READ = Exercise(
    id="18.tokens_read",
    cases=((1, 1), (3, 1), (4, 6), (16, 40), (1, 5)),
    reference=_tokens_read,
    wrong_answers=(
        WrongAnswer(
            lambda n_prompt, n_new: [_tokens_read(n_prompt, n_new)[0], n_prompt + n_new],
            "With a cache, this counts the last new token too. It is generated, but never read.",
        ),
        WrongAnswer(
            lambda n_prompt, n_new: [_tokens_read(n_prompt + 1, n_new)[0], n_prompt + n_new - 1],
            "The first call reads the prompt alone: no new token has been appended yet.",
        ),
        WrongAnswer(
            lambda n_prompt, n_new: [_tokens_read(n_prompt, n_new)[0], n_new],
            "A cache starts empty, so the prompt has to be read too, once.",
        ),
        WrongAnswer(
            lambda n_prompt, n_new: [n_new * (n_prompt + n_new - 1), n_prompt + n_new - 1],
            "Without a cache, only the last call reads that many tokens. Earlier ones read fewer.",
        ),
        WrongAnswer(
            lambda n_prompt, n_new: [n_new * n_prompt, n_prompt + n_new - 1],
            "Without a cache, every call reads the new tokens again too, not only the prompt.",
        ),
    ),
    hints=(
        "Write down how many tokens each call reads, for a prompt of 4 and 3 new tokens.",
        "The first call reads the prompt and gives the first new token. The last new token is "
        "never read.",
    ),
)


def _next_positions(lengths: Sequence[int], n_written: int) -> list[int]:
    """Each sequence's next position, after a batch padded on the left and `n_written` steps."""
    return [length + n_written for length in lengths]


NEXT_POSITIONS = Exercise(
    id="18.next_positions",
    cases=(([3], 0), ([3], 2), ([3, 1], 0), ([5, 2, 4], 3), ([2, 2], 6)),
    reference=_next_positions,
    wrong_answers=(
        WrongAnswer(
            lambda lengths, n_written: [max(lengths) + n_written for _ in lengths],
            "This is the column in the batch, padding included. Positions start after the padding.",
        ),
        WrongAnswer(
            lambda lengths, n_written: [n_written for _ in lengths],
            "Positions continue after the prompt. Here they start at 0 again.",
        ),
        WrongAnswer(
            lambda lengths, n_written: list(lengths),
            "The new tokens in the cache have positions too, and the next one comes after them.",
        ),
        WrongAnswer(
            lambda lengths, n_written: [length + n_written - 1 for length in lengths],
            "The last token in the cache already has that position. Positions are counted from 0.",
        ),
        WrongAnswer(
            lambda lengths, n_written: [max(lengths) - length + n_written for length in lengths],
            "This counts the padding in front of each sequence instead of its own tokens.",
        ),
    ),
    hints=(
        "What position would the token get if its sequence were alone, without padding?",
        "How many tokens of its own sequence come before it? Positions start at 0.",
    ),
)


def _piece_mask(n_cached: int, n_new: int, window: int | None) -> Tensor:
    """What `n_new` tokens may see of themselves and of `n_cached` before: (n_new, all) booleans."""
    query = torch.arange(n_cached, n_cached + n_new)[:, None]
    key = torch.arange(n_cached + n_new)
    mask = key <= query
    return mask if window is None else mask & (query - key < window)


def _left_triangle(n_cached: int, n_new: int, window: int | None) -> Tensor:
    query, key = torch.arange(n_new)[:, None], torch.arange(n_cached + n_new)
    mask = key <= query
    return mask if window is None else mask & (query - key < window)


def _all_but_itself(n_cached: int, n_new: int, window: int | None) -> Tensor:
    itself = torch.arange(n_cached, n_cached + n_new)[:, None] == torch.arange(n_cached + n_new)
    return _piece_mask(n_cached, n_new, window) & ~itself


PIECE_MASK = Exercise(
    id="18.piece_mask",
    cases=(
        (0, 1, None),
        (0, 3, None),
        (2, 1, None),
        (2, 3, None),
        (3, 2, 2),
        (0, 4, 3),
        (5, 1, 1),
        (6, 3, 4),
    ),
    reference=_piece_mask,
    wrong_answers=(
        WrongAnswer(
            _left_triangle,
            "The triangle is at the left, but the first new token comes after all cached ones.",
        ),
        WrongAnswer(
            lambda n_cached, n_new, window: torch.ones(n_new, n_cached + n_new, dtype=torch.bool),
            "New tokens see later ones of the same chunk. This is right for one token only.",
        ),
        WrongAnswer(
            _all_but_itself,
            "A token may see itself: the newest key that it sees is its own.",
        ),
        WrongAnswer(
            lambda n_cached, n_new, window: _piece_mask(n_cached, n_new, None),
            "The window is missing: keys `window` or more positions back must be hidden.",
        ),
        WrongAnswer(
            lambda n_cached, n_new, window: _piece_mask(
                n_cached, n_new, None if window is None else window + 1
            ),
            "Each token sees one key too many: a window of 4 is the token itself and 3 before it.",
        ),
        WrongAnswer(
            lambda n_cached, n_new, window: _piece_mask(0, n_new, window),
            "The cached tokens are missing: the keys are those in the cache and the new ones.",
        ),
    ),
    hints=(
        "Number queries and keys by their positions. What is the position of the first query?",
        "Comparing a row of positions with a column of positions gives a table of all pairs.",
    ),
)


def _ring_places(n_seen: int, n_slots: int) -> list[int]:
    """The position that each slot of a ring holds after positions 0 to n_seen - 1; -1 for none."""
    last = n_seen - 1
    return [max(last - (last - slot) % n_slots, -1) for slot in range(n_slots)]


RING_PLACES = Exercise(
    id="18.ring_places",
    cases=((0, 3), (1, 3), (3, 3), (4, 3), (7, 3), (10, 4), (5, 1)),
    reference=_ring_places,
    wrong_answers=(
        WrongAnswer(
            lambda n_seen, n_slots: [
                n_seen - 1 - (n_seen - 1 - slot) % n_slots for slot in range(n_slots)
            ],
            "There are no positions below 0: such a slot was never written, and counts as -1.",
        ),
        WrongAnswer(
            lambda n_seen, n_slots: (
                list(range(max(n_seen - n_slots, 0), n_seen)) + [-1] * max(n_slots - n_seen, 0)
            ),
            "The right positions are in the wrong slots: in a ring nothing is moved.",
        ),
        WrongAnswer(
            lambda n_seen, n_slots: [slot if slot < n_seen else -1 for slot in range(n_slots)],
            "This ring never overwrites: it keeps the first positions and loses the newest.",
        ),
        WrongAnswer(
            lambda n_seen, n_slots: _ring_places(n_seen + 1, n_slots),
            "One position too many: after n_seen tokens, the last position is n_seen - 1.",
        ),
        WrongAnswer(
            lambda n_seen, n_slots: [
                place if place >= 0 else 0 for place in _ring_places(n_seen, n_slots)
            ],
            "Here an empty slot seems to hold position 0, and would be attended to.",
        ),
    ),
    hints=(
        "Simulate it: start with empty slots and write one position after the other.",
        "Position p goes to the slot numbered p modulo the number of slots.",
    ),
)


def _tokens_per_second(
    weight_bytes: float, cache_bytes: float, n_texts: int, bandwidth: float
) -> float:
    """The rate of all sequences together, if only reading weights and caches takes time."""
    return n_texts * bandwidth / (weight_bytes + n_texts * cache_bytes)


TOKENS_PER_SECOND = Exercise(
    id="18.tokens_per_second",
    cases=(
        (100.0, 0.0, 1, 1000.0),
        (100.0, 25.0, 1, 1000.0),
        (100.0, 25.0, 4, 1000.0),
        (14e9, 1e8, 8, 5e10),
    ),
    reference=_tokens_per_second,
    wrong_answers=(
        WrongAnswer(
            lambda weight_bytes, cache_bytes, n_texts, bandwidth: (
                bandwidth / (weight_bytes + cache_bytes)
            ),
            "The weights are read once for all sequences, not once for each.",
        ),
        WrongAnswer(
            lambda weight_bytes, cache_bytes, n_texts, bandwidth: (
                n_texts * bandwidth / weight_bytes
            ),
            "The caches are missing: each new token attends to all earlier ones in every block.",
        ),
        WrongAnswer(
            lambda weight_bytes, cache_bytes, n_texts, bandwidth: (
                n_texts * bandwidth / (weight_bytes + cache_bytes)
            ),
            "The sequences share the weights, but each has a cache of its own to be read.",
        ),
        WrongAnswer(
            lambda weight_bytes, cache_bytes, n_texts, bandwidth: (
                bandwidth / (weight_bytes + n_texts * cache_bytes)
            ),
            "These are passes per second. Each pass makes one token for every sequence.",
        ),
        WrongAnswer(
            lambda weight_bytes, cache_bytes, n_texts, bandwidth: (
                (weight_bytes + n_texts * cache_bytes) / bandwidth
            ),
            "This is the time of a pass in seconds. The question asks for tokens per second.",
        ),
    ),
    hints=(
        "How many bytes does one pass read? How long does that take?",
        "One pass makes one token for each sequence.",
    ),
)


def _texts_that_fit(
    memory: int,
    weight_bytes: int,
    n_layers: int,
    n_kv_heads: int,
    head_dim: int,
    n_tokens: int,
    window: int | None = None,
) -> int:
    """How many sequences' caches fit beside the weights, at 2 bytes per number."""
    n_kept = n_tokens if window is None else min(n_tokens, window)
    one_text = 2 * n_layers * n_kv_heads * head_dim * n_kept * 2
    return max(memory - weight_bytes, 0) // one_text


def _fit_without_window(*arguments: int) -> int:
    return _texts_that_fit(*arguments[:6])


def _fit_with_full_window(*arguments: int) -> int:
    n_tokens, window = arguments[5:]
    return _fit_tokens(arguments, n_tokens if window is None else window)


def _fit_tokens(arguments: Sequence[int], n_tokens: int) -> int:
    memory, weight_bytes, n_layers, n_kv_heads, head_dim = arguments[:5]
    return _texts_that_fit(memory, weight_bytes, n_layers, n_kv_heads, head_dim, n_tokens)


def _fit_rounded_up(memory: int, weight_bytes: int, *sizes: int) -> int:
    fitting = _texts_that_fit(memory, weight_bytes, *sizes)
    # One byte less than a further sequence takes would be enough for it, if rounding went up.
    n_layers, n_kv_heads, head_dim, n_tokens, window = sizes
    n_kept = n_tokens if window is None else min(n_tokens, window)
    return fitting + (
        memory - weight_bytes > fitting * 4 * n_layers * n_kv_heads * head_dim * n_kept
    )


TEXTS_THAT_FIT = Exercise(
    id="18.texts_that_fit",
    cases=(
        (1_000, 200, 1, 1, 10, 10, None),
        (10_500, 1_300, 2, 2, 8, 20, None),
        (10_500, 1_300, 2, 2, 8, 20, 4),
        (10_500, 1_300, 2, 2, 8, 20, 40),
        (100, 200, 1, 1, 4, 2, None),
        (24_000_000_000, 14_483_464_192, 32, 8, 128, 32_768, 4096),
    ),
    reference=_texts_that_fit,
    wrong_answers=(
        WrongAnswer(
            lambda memory, weight_bytes, *sizes: _texts_that_fit(
                2 * memory, 2 * weight_bytes, *sizes
            ),
            "Half of the cache is missing: there is a key and a value for each token and head.",
        ),
        WrongAnswer(
            lambda memory, weight_bytes, *sizes: _texts_that_fit(memory, 0, *sizes),
            "The weights are in the same memory, and only the rest of it is free for caches.",
        ),
        WrongAnswer(
            _fit_without_window,
            "With a window, a long sequence needs only W slots: older tokens are not seen.",
        ),
        WrongAnswer(
            _fit_with_full_window,
            "A sequence shorter than the window needs no more slots than it has tokens.",
        ),
        WrongAnswer(
            _fit_rounded_up,
            "The last of these sequences would have only a part of its cache: round down.",
        ),
        WrongAnswer(
            lambda *arguments: _fit_tokens(arguments, 1),
            "This is the number of tokens that fit. Each sequence has many of them.",
        ),
    ),
    hints=(
        "How many numbers does one token keep in one block? Then in all blocks, for all tokens.",
        "A sequence keeps all its tokens, or as many as the window holds, whichever is less.",
    ),
)

EXERCISES = (
    TOKENS_READ,
    NEXT_POSITIONS,
    PIECE_MASK,
    RING_PLACES,
    TOKENS_PER_SECOND,
    TEXTS_THAT_FIT,
)
