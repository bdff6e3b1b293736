"""The exercises of lesson 04: from documents to batches."""

import hashlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer

TWO_32, TWO_64 = 2**32, 2**64


def _pieces(text: str, n: int) -> list[str]:
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def _jaccard(first: str, second: str, n: int) -> float:
    """How many pieces of `n` characters both texts have, of those that any of them has."""
    one, two = set(_pieces(first, n)), set(_pieces(second, n))
    return len(one & two) / len(one | two) if one | two else 1.0


def _share_of(first: str, second: str, n: int, size: str) -> float:
    one, two = set(_pieces(first, n)), set(_pieces(second, n))
    sizes = {
        "smaller": min(len(one), len(two)),
        "sum": len(one) + len(two),
        "first": len(one),
    }
    return len(one & two) / sizes[size] if sizes[size] else 1.0


def _jaccard_with_repeats(first: str, second: str, n: int) -> float:
    one, two = _pieces(first, n), _pieces(second, n)
    both = sum(piece in two for piece in one)
    return both / (len(one) + len(two) - both) if one or two else 1.0


JACCARD = Exercise(
    id="04.jaccard",
    cases=(
        ("abc", "abd", 1),
        ("abab", "ab", 2),
        ("the cat", "the cats", 3),
        ("banana", "ananas", 2),
        ("a", "b", 2),
        ("", "abc", 2),
    ),
    reference=_jaccard,
    wrong_answers=(
        WrongAnswer(
            lambda first, second, n: _share_of(first, second, n, "smaller"),
            "This divides by the smaller set: a page would be a copy of the book that it is in.",
        ),
        WrongAnswer(
            lambda first, second, n: 2 * _share_of(first, second, n, "sum"),
            "This is Dice's coefficient: twice the common part, divided by the sum of the sizes.",
        ),
        WrongAnswer(
            lambda first, second, n: _share_of(first, second, n, "sum"),
            "The denominator counts the common part twice: equal texts would get only 1/2.",
        ),
        WrongAnswer(
            lambda first, second, n: _share_of(first, second, n, "first"),
            "This divides by the size of the first set: swapping the texts would change it.",
        ),
        WrongAnswer(
            _jaccard_with_repeats,
            "Repeated pieces are counted more than once. Compare sets, not lists.",
        ),
        WrongAnswer(
            lambda first, second, n: _jaccard(first, second, 1),
            "These are single characters, so their order has no effect. A piece has n of them.",
        ),
    ),
    hints=(
        "Write down the pieces of 'abab' and of 'ab' for n = 2. How many does each have?",
        "For Python's sets, & is the intersection and | the union.",
    ),
)


def _minhash_signature(numbers: Sequence[int], shuffles: Sequence[tuple[int, int]]) -> list[int]:
    """For each shuffle x -> a x + b mod 2^32, the smallest result over the set."""
    return [min((a * x + b) % TWO_32 for x in numbers) for a, b in shuffles]


MINHASH_SIGNATURE = Exercise(
    id="04.minhash_signature",
    cases=(
        ([1, 2], [(1, 0), (3, 5)]),
        ([5, 7, 2**31], [(2**31 + 1, 7), (3, 2**32 - 16), (5, 11)]),
        ([10, 20, 30, 40], [(2654435769, 1), (2246822507, 99), (3266489909, 12345)]),
    ),
    reference=_minhash_signature,
    wrong_answers=(
        WrongAnswer(
            lambda numbers, shuffles: [
                min(numbers, key=lambda x: (a * x + b) % TWO_32) for a, b in shuffles
            ],
            "This is the member that comes first. A signature has its shuffled number instead.",
        ),
        WrongAnswer(
            lambda numbers, shuffles: [(a * min(numbers) + b) % TWO_32 for a, b in shuffles],
            "The smallest is chosen before the shuffle, so every place has the same member.",
        ),
        WrongAnswer(
            lambda numbers, shuffles: [min(a * x + b for x in numbers) for a, b in shuffles],
            "Without mod 2^32 nothing is shuffled: a larger x always gives a larger number.",
        ),
        WrongAnswer(
            lambda numbers, shuffles: [
                max((a * x + b) % TWO_32 for x in numbers) for a, b in shuffles
            ],
            "This takes the largest number. The smallest is the convention of all our signatures.",
        ),
        WrongAnswer(
            lambda numbers, shuffles: [
                min((a * x + b) % TWO_32 for a, b in shuffles) for x in numbers
            ],
            "This has one number per member. A signature has one per shuffle.",
        ),
    ),
    hints=(
        "The result has as many numbers as there are shuffles, however large the set is.",
        "For one pair (a, b): shuffle every member, then take the smallest. Then for the next.",
    ),
)


def _bands(s: float, n_bands: int, n_rows: int) -> float:
    """The probability that two signatures of similarity `s` agree in a whole band."""
    return 1 - (1 - s**n_rows) ** n_bands


BANDS = Exercise(
    id="04.bands",
    cases=((0.5, 1, 2), (0.5, 2, 1), (0.8, 16, 8), (0.3, 4, 2), (0.0, 3, 3), (1.0, 2, 5)),
    reference=_bands,
    wrong_answers=(
        WrongAnswer(
            lambda s, n_bands, n_rows: _bands(s, n_rows, n_bands),
            "Bands and rows are swapped: all rows of a band must agree, but only one of the bands.",
        ),
        WrongAnswer(
            lambda s, n_bands, n_rows: 1 - _bands(s, n_bands, n_rows),
            "This is the probability that the pair is missed.",
        ),
        WrongAnswer(
            lambda s, n_bands, n_rows: s ** (n_rows * n_bands),
            "This requires all bands to agree, but one is enough.",
        ),
        WrongAnswer(
            lambda s, n_bands, n_rows: n_bands * s**n_rows,
            "Probabilities of several bands can't be added: for equal texts the sum exceeds 1.",
        ),
        WrongAnswer(
            lambda s, n_bands, n_rows: 1 - (1 - s) ** (n_bands * n_rows),
            "This requires only one number to agree, but all numbers of a band must.",
        ),
    ),
    hints=(
        "Take one band first: all of its numbers must agree, each with probability s.",
        "Find the probability that no band agrees, and subtract it from 1.",
    ),
)


def _hash_share(data: bytes, order: Literal["little", "big"] = "big") -> float:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], order) / TWO_64


def _side(u: float, validation: float, test: float) -> int:
    return 2 if u < test else 1 if u < test + validation else 0


def _split_of_document(text: str, validation: float, test: float) -> int:
    """0 for train, 1 for validation, 2 for test, by the first 64 bits of the text's SHA-256."""
    return _side(_hash_share(text.encode("utf-8")), validation, test)


SPLIT_OF_DOCUMENT = Exercise(
    id="04.split_of_document",
    cases=tuple(
        (f"page {i} of the {word}", validation, test)
        for i, word in enumerate(("bees", "Größen", "tides", "chess", "rivers", "glass") * 3)
        for validation, test in ((0.3, 0.2), (0.1, 0.4))
    ),
    reference=_split_of_document,
    wrong_answers=(
        WrongAnswer(
            lambda text, validation, test: _side(_hash_share(text.encode()), test, validation),
            "The shares of test and validation are swapped.",
        ),
        WrongAnswer(
            lambda text, validation, test: (
                2 if (u := _hash_share(text.encode())) < test else 1 if u < validation else 0
            ),
            "The two shares overlap: validation begins where test ends.",
        ),
        WrongAnswer(
            lambda text, validation, test: _side(1 - _hash_share(text.encode()), validation, test),
            "The test set is taken from the upper end, but it is where u is below `test`.",
        ),
        WrongAnswer(
            lambda text, validation, test: _side(
                _hash_share(text.encode(), "little"), validation, test
            ),
            "The bytes are read as little-endian. In big-endian order the first counts most.",
        ),
        WrongAnswer(
            lambda text, validation, test: _side(
                _hash_share(str(len(text)).encode()), validation, test
            ),
            "This hashes the length, so all texts of one length would be in the same split.",
        ),
    ),
    hints=(
        "hashlib computes the SHA-256; int.from_bytes turns its first eight bytes into a number.",
        "Draw a line from 0 to 1, and mark where test ends and where validation ends.",
    ),
)


def _document_mask(documents: Tensor) -> Tensor:
    """True where query and key belong to one document, and the key is not later."""
    return (documents[:, None] == documents[None, :]).tril()


DOCUMENT_MASK = Exercise(
    id="04.document_mask",
    cases=(
        (torch.tensor([0, 0]),),
        (torch.tensor([0, 1]),),
        (torch.tensor([0, 0, 1, 1, 1, 2]),),
    ),
    reference=_document_mask,
    wrong_answers=(
        WrongAnswer(
            lambda documents: documents[:, None] == documents[None, :],
            "Within a document, tokens see those that come after them.",
        ),
        WrongAnswer(
            lambda documents: torch.ones(len(documents), len(documents)).tril().bool(),
            "This is the plain causal mask: tokens see earlier documents.",
        ),
        WrongAnswer(
            lambda documents: (documents[:, None] == documents[None, :]).tril(-1),
            "No token sees itself, so the first token of a document would have no key at all.",
        ),
        WrongAnswer(
            lambda documents: (documents[:, None] == documents[None, :]).triu(),
            "Rows are queries and columns are keys. This mask is transposed.",
        ),
        WrongAnswer(
            lambda documents: (documents[:, None] != documents[None, :]).tril(),
            "This is True for other documents, but True means that a token may be seen.",
        ),
    ),
    hints=(
        "Two conditions must hold together: the same document, and not later.",
        "Comparing a column of numbers with a row of numbers gives a square of booleans.",
    ),
)


def _restart_positions(tokens: Sequence[int], end_of_text: int) -> list[int]:
    """The place of each token in its document; an end is the last token of its document."""
    positions, place = [], 0
    for token in tokens:
        positions.append(place)
        place = 0 if token == end_of_text else place + 1
    return positions


def _restart_at_end(tokens: Sequence[int], end_of_text: int) -> list[int]:
    positions, place = [], 0
    for token in tokens:
        place = 0 if token == end_of_text else place
        positions.append(place)
        place += 1
    return positions


def _number_documents(tokens: Sequence[int], end_of_text: int) -> list[int]:
    return [list(tokens[:i]).count(end_of_text) for i in range(len(tokens))]


RESTART_POSITIONS = Exercise(
    id="04.restart_positions",
    cases=(
        ([5, 6], 9),
        ([5, 9, 6], 9),
        ([9, 9, 5, 6, 7, 9, 8, 8], 9),
    ),
    reference=_restart_positions,
    wrong_answers=(
        WrongAnswer(
            lambda tokens, end_of_text: list(range(len(tokens))),
            "The positions never restart.",
        ),
        WrongAnswer(
            _restart_at_end,
            "The end gets position 0, but it belongs to the document that it ends.",
        ),
        WrongAnswer(
            lambda tokens, end_of_text: [p + 1 for p in _restart_positions(tokens, end_of_text)],
            "A document starts at position 0, not 1.",
        ),
        WrongAnswer(
            _number_documents,
            "These are the numbers of the documents. A position is a place within a document.",
        ),
    ),
    hints=(
        "Go through the tokens with a counter. When is it reset: before the end or after it?",
        "The end still gets the next position of its document. The token after it gets 0.",
    ),
)


def _resume_place(
    steps: int, n_windows: int, batch_size: int, rank: int, n_ranks: int
) -> tuple[int, int]:
    """Epoch and place in it of the next window of `rank` after `steps` steps of all processes."""
    return divmod(steps * batch_size * n_ranks + rank * batch_size, n_windows)


RESUME_PLACE = Exercise(
    id="04.resume_place",
    cases=(
        (0, 10, 2, 0, 1),
        (3, 10, 2, 0, 1),
        (3, 10, 2, 1, 2),
        (4, 10, 3, 0, 1),
        (7, 11, 2, 2, 3),
    ),
    reference=_resume_place,
    wrong_answers=(
        WrongAnswer(
            lambda steps, n_windows, batch_size, rank, n_ranks: divmod(
                steps * batch_size, n_windows
            ),
            "The other processes are missing: in each step, all of them advance along the row.",
        ),
        WrongAnswer(
            lambda steps, n_windows, batch_size, rank, n_ranks: divmod(
                steps * batch_size * n_ranks, n_windows
            ),
            "All processes would take the same windows. Each starts after the lower ranks' shares.",
        ),
        WrongAnswer(
            lambda steps, n_windows, batch_size, rank, n_ranks: divmod(
                steps * batch_size * n_ranks + rank, n_windows
            ),
            "A process takes a whole batch: the next rank starts one batch later, not one window.",
        ),
        WrongAnswer(
            lambda steps, n_windows, batch_size, rank, n_ranks: (
                steps // (n_windows // (batch_size * n_ranks)),
                steps % (n_windows // (batch_size * n_ranks)) * batch_size * n_ranks
                + rank * batch_size,
            ),
            "This drops the end of an epoch that fills no batch, but a batch may span two epochs.",
        ),
        WrongAnswer(
            lambda steps, n_windows, batch_size, rank, n_ranks: (0, 0),
            "This starts again from the beginning: the run would see its first windows twice.",
        ),
    ),
    hints=(
        "How many windows have all processes together taken after the given number of steps?",
        "Find the place in the endless row first, and then the epoch that it is in.",
    ),
)

EXERCISES = (
    JACCARD,
    MINHASH_SIGNATURE,
    BANDS,
    SPLIT_OF_DOCUMENT,
    DOCUMENT_MASK,
    RESTART_POSITIONS,
    RESUME_PLACE,
)
