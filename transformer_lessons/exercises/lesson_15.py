"""The exercises of lesson 15: several processes."""

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _global_mean(sums: list[float], counts: list[int]) -> float:
    """The mean over the targets of all ranks, from each one's sum of losses and its count."""
    return sum(sums) / sum(counts)


GLOBAL_MEAN = Exercise(
    id="15.global_mean",
    cases=(
        ([6.0, 2.0], [3, 1]),
        ([8.0, 3.0], [4, 1]),
        ([5.0, 9.0, 1.0], [10, 2, 4]),
        ([4.0, 0.0, 6.0], [2, 1, 2]),
    ),
    reference=_global_mean,
    wrong_answers=(
        WrongAnswer(
            lambda sums, counts: (
                sum(s / n for s, n in zip(sums, counts, strict=True)) / len(counts)
            ),
            "That is the mean of the ranks' means. A target of a rank with few targets counts "
            "more in it than one of a rank with many.",
        ),
        WrongAnswer(
            lambda sums, counts: sum(sums) / counts[0],
            "All sums are added, but they are divided by the count of rank 0 alone.",
        ),
        WrongAnswer(
            lambda sums, counts: sum(sums) / len(sums),
            "The sums are divided by the number of ranks. How many targets are there?",
        ),
        WrongAnswer(
            lambda sums, counts: sums[0] / counts[0],
            "That is rank 0's own mean: the other ranks have worked for nothing.",
        ),
    ),
    hints=(
        "What would one process compute that had all targets?",
        "Both the sums and the counts are added over the ranks, and then divided once.",
    ),
)


def _own_windows(step: int, batch_size: int, rank: int, n_ranks: int) -> list[int]:
    """The numbers of the windows that `rank` takes in step `step`, counted from 0."""
    share = batch_size // n_ranks
    first = step * batch_size + rank * share
    return list(range(first, first + share))


OWN_WINDOWS = Exercise(
    id="15.own_windows",
    cases=((0, 4, 1, 2), (1, 4, 0, 2), (2, 6, 2, 3), (3, 8, 1, 4), (5, 6, 0, 1)),
    reference=_own_windows,
    wrong_answers=(
        WrongAnswer(
            lambda step, batch_size, rank, n_ranks: list(
                range(step * batch_size, (step + 1) * batch_size)
            ),
            "Every rank takes the whole batch: all of them compute the same gradient.",
        ),
        WrongAnswer(
            lambda step, batch_size, rank, n_ranks: [
                step * (batch_size // n_ranks) + rank * (batch_size // n_ranks) + i
                for i in range(batch_size // n_ranks)
            ],
            "The next step begins after this rank's own windows, so it takes again what another "
            "rank has had. It begins after the windows of all ranks.",
        ),
        WrongAnswer(
            lambda step, batch_size, rank, n_ranks: [
                (step * n_ranks + rank) * batch_size + i for i in range(batch_size)
            ],
            "Here every rank takes `batch_size` windows. `batch_size` is that of all together, so "
            "that a run is the same with any number of ranks.",
        ),
        WrongAnswer(
            lambda step, batch_size, rank, n_ranks: [
                step * batch_size + rank + i for i in range(batch_size // n_ranks)
            ],
            "The shares overlap: rank 1 begins one window behind rank 0, not one share.",
        ),
    ),
    hints=(
        "Where does the whole batch of this step begin, and how large is a share of it?",
        "It begins after one batch for each earlier step; this rank's share, after those of the "
        "ranks before it.",
    ),
)


def _ring_chunk(rank: int, step: int, n_ranks: int) -> int:
    """The chunk that `rank` sends to the next rank in `step` of the reduce-scatter."""
    return (rank - step) % n_ranks


RING_CHUNK = Exercise(
    id="15.ring_chunk",
    cases=((0, 0, 4), (2, 1, 4), (1, 2, 4), (0, 1, 3), (4, 3, 5), (0, 2, 3)),
    reference=_ring_chunk,
    wrong_answers=(
        WrongAnswer(
            lambda rank, step, n_ranks: rank,
            "A rank doesn't send the same chunk every time: it passes on the sum it just received.",
        ),
        WrongAnswer(
            lambda rank, step, n_ranks: (rank + step) % n_ranks,
            "That goes the wrong way round. What came in the last step came from rank - 1, and "
            "was the chunk that rank - 1 had sent.",
        ),
        WrongAnswer(
            lambda rank, step, n_ranks: (rank - step - 1) % n_ranks,
            "That is the chunk that arrives in this step; it is sent on in the next one.",
        ),
        WrongAnswer(
            lambda rank, step, n_ranks: rank - step,
            "Before chunk 0 comes the last one: the number must be taken modulo n_ranks.",
        ),
    ),
    hints=(
        "In step 0 rank r sends chunk r. Which chunk does it receive in that step?",
        "It received chunk r - 1 from rank r - 1, and sends the sum on in step 1. And so on.",
    ),
)


def _bytes_held(n_parameters: int, n_ranks: int, shard: bool) -> float:
    """The bytes of weights, gradients and AdamW's two averages that a rank holds, in float32."""
    return 16 * n_parameters / (n_ranks if shard else 1)


BYTES_HELD = Exercise(
    id="15.bytes_held",
    cases=((12, 2, False), (12, 4, True), (3000, 3, True), (10, 5, False), (64, 8, True)),
    reference=_bytes_held,
    wrong_answers=(
        WrongAnswer(
            lambda n_parameters, n_ranks, shard: (
                (4 / (n_ranks if shard else 1) + 12) * n_parameters
            ),
            "Only the weights are split. FSDP splits gradients and averages in the same way.",
        ),
        WrongAnswer(
            lambda n_parameters, n_ranks, shard: 12 * n_parameters / (n_ranks if shard else 1),
            "Four bytes a parameter are missing: besides weight and two averages, there is the "
            "gradient.",
        ),
        WrongAnswer(
            lambda n_parameters, n_ranks, shard: 16 * n_parameters / n_ranks,
            "Without shares (DDP), every rank holds the whole model and all that belongs to it.",
        ),
        WrongAnswer(
            lambda n_parameters, n_ranks, shard: 4 * n_parameters / (n_ranks if shard else 1),
            "Those are the weights alone. What else does a training step with AdamW need?",
        ),
    ),
    hints=(
        "Count what there is for each parameter: how many numbers of four bytes?",
        "Weight, gradient and two averages are 16 bytes; with shares, they are divided by n_ranks.",
    ),
)


def _bytes_sent(n_bytes: float, n_ranks: int) -> float:
    """What a rank sends in a ring all-reduce of `n_bytes`."""
    return 2 * (n_ranks - 1) * n_bytes / n_ranks


BYTES_SENT = Exercise(
    id="15.bytes_sent",
    cases=((8.0, 2), (12.0, 3), (100.0, 1), (64.0, 8), (1000.0, 4)),
    reference=_bytes_sent,
    wrong_answers=(
        WrongAnswer(
            lambda n_bytes, n_ranks: (n_ranks - 1) * n_bytes / n_ranks,
            "That is the reduce-scatter alone. After it, each rank has one chunk of the sum, and "
            "the others still need it.",
        ),
        WrongAnswer(
            lambda n_bytes, n_ranks: 2 * n_bytes,
            "That is what it comes to for very many ranks. In each half a rank sends n_ranks - 1 "
            "chunks, not n_ranks.",
        ),
        WrongAnswer(
            lambda n_bytes, n_ranks: (n_ranks - 1) * n_bytes,
            "It would send this much if it gave its whole gradient to everybody.",
        ),
        WrongAnswer(
            lambda n_bytes, n_ranks: 2 * (n_ranks - 1) * n_bytes,
            "It sends chunks, and a chunk is only n_bytes / n_ranks.",
        ),
    ),
    hints=(
        "How large is a chunk, and how many does a rank send in the reduce-scatter?",
        "All chunks but one, each the whole divided by the number of ranks; and in the all-gather "
        "as many again.",
    ),
)


def _resumed_at(n_steps: int, batch_size: int, old_ranks: int, new_ranks: int, rank: int) -> int:
    """The first window that `rank` takes when a run goes on with another number of ranks."""
    return n_steps * batch_size + rank * (batch_size // new_ranks)


RESUMED_AT = Exercise(
    id="15.resumed_at",
    cases=((10, 12, 2, 3, 0), (10, 12, 2, 3, 2), (3, 8, 4, 2, 1), (5, 6, 1, 3, 1), (2, 8, 4, 8, 5)),
    reference=_resumed_at,
    wrong_answers=(
        WrongAnswer(
            lambda n_steps, batch_size, old_ranks, new_ranks, rank: (
                n_steps * batch_size * old_ranks + rank * (batch_size // new_ranks)
            ),
            "The old ranks took `batch_size` windows a step together, not each.",
        ),
        WrongAnswer(
            lambda n_steps, batch_size, old_ranks, new_ranks, rank: (
                n_steps * (batch_size // old_ranks) + rank * (batch_size // new_ranks)
            ),
            "That is how many windows one of the old ranks took. The others' have been taken too.",
        ),
        WrongAnswer(
            lambda n_steps, batch_size, old_ranks, new_ranks, rank: (
                n_steps * batch_size + rank * (batch_size // old_ranks)
            ),
            "The share is the old one; there are `new_ranks` ranks to share a batch now.",
        ),
        WrongAnswer(
            lambda n_steps, batch_size, old_ranks, new_ranks, rank: (
                (n_steps + 1) * batch_size + rank * (batch_size // new_ranks)
            ),
            "One step is left out: `n_steps` are done, and the next one begins right after them.",
        ),
    ),
    hints=(
        "How many windows have all old ranks together taken? Does it matter how many there were?",
        "Each step has taken one batch. The next batch is shared by the new ranks.",
    ),
)

EXERCISES = (GLOBAL_MEAN, OWN_WINDOWS, RING_CHUNK, BYTES_HELD, BYTES_SENT, RESUMED_AT)
