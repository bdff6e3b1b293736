"""The exercises of lesson 03: byte-pair encoding, from counting pairs to comparing tokenizers.

Tokens are ids: 0 to 255 are bytes, and each merge makes the next number.
"""

import re
from collections.abc import Iterable
from itertools import pairwise

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer

IdPair = tuple[int, int]


def _count_pair(words: list[list[int]], counts: list[int], pair: IdPair) -> int:
    """How often `pair` occurs in all words, the word at i occurring `counts[i]` times."""
    return sum(n * list(pairwise(word)).count(pair) for word, n in zip(words, counts, strict=True))


def _count_apart(word: list[int], pair: IdPair) -> int:
    """Occurrences of `pair` that don't overlap."""
    return len(word) - len(_join_pair(word, pair, -1))


COUNT_PAIR = Exercise(
    id="03.count_pair",
    cases=(
        ([[1, 2]], [1], (1, 2)),
        ([[1, 2, 1, 2]], [1], (1, 2)),
        ([[1, 2], [2, 1]], [3, 1], (1, 2)),
        ([[1, 2], [1, 2, 1, 2]], [5, 2], (1, 2)),
        ([[1], [2]], [4, 4], (1, 2)),
        ([[7, 7, 7]], [2], (7, 7)),
    ),
    reference=_count_pair,
    wrong_answers=(
        WrongAnswer(
            lambda words, counts, pair: sum(list(pairwise(word)).count(pair) for word in words),
            "Each word is counted once: one that occurs n times has its pairs n times.",
        ),
        WrongAnswer(
            lambda words, counts, pair: sum(
                n * (pair in pairwise(word)) for word, n in zip(words, counts, strict=True)
            ),
            "This counts the words that contain the pair: a word can contain it more than once.",
        ),
        WrongAnswer(
            lambda words, counts, pair: sum(
                n * _count_apart(word, pair) for word, n in zip(words, counts, strict=True)
            ),
            "Occurrences that overlap are counted once: three equal tokens have two pairs.",
        ),
        WrongAnswer(
            lambda words, counts, pair: sum(
                n * sum({left, right} == set(pair) for left, right in pairwise(word))
                for word, n in zip(words, counts, strict=True)
            ),
            "The order inside the pair is ignored: (2, 1) is not (1, 2).",
        ),
        WrongAnswer(
            lambda words, counts, pair: list(
                pairwise([id for word, n in zip(words, counts, strict=True) for id in word * n])
            ).count(pair),
            "The words are joined end to end: a pair never reaches from one word into the next.",
        ),
    ),
    hints=(
        "Do one word first: which neighbours does it have, and how many of them are the pair?",
        "itertools.pairwise gives the neighbours. Multiply what you find in a word by its count.",
    ),
)


def _best_pair(counts: dict[IdPair, int], tokens: list[bytes]) -> IdPair:
    """The most frequent pair; of those that tie, the one whose tokens sort last."""
    return max(counts, key=lambda pair: (counts[pair], tokens[pair[0]], tokens[pair[1]]))


BEST_PAIR = Exercise(
    id="03.best_pair",
    cases=(
        ({(0, 1): 3, (1, 0): 2}, [b"a", b"b"]),
        ({(0, 1): 1, (1, 0): 5, (1, 1): 2}, [b"a", b"b"]),
        ({(0, 1): 4, (0, 2): 4, (2, 1): 1}, [b"a", b"c", b"b"]),
        ({(0, 1): 2, (1, 0): 2}, [b"a", b"b"]),
        ({(0, 1): 2, (1, 1): 2, (1, 0): 1}, [b"b", b"a"]),
        ({(2, 0): 2, (0, 1): 2}, [b"a", b"bc", b"ab"]),
    ),
    reference=_best_pair,
    wrong_answers=(
        WrongAnswer(
            lambda counts, tokens: max(counts, key=lambda pair: counts[pair]),
            "In a tie, this takes the pair that was met first: the rule asks for the last one in "
            "sorted order.",
        ),
        WrongAnswer(
            lambda counts, tokens: max(counts, key=lambda pair: (counts[pair], pair)),
            "Ties are settled by the ids: compare the tokens' bytes, which do not depend on the "
            "order of learning.",
        ),
        WrongAnswer(
            lambda counts, tokens: min(
                counts, key=lambda pair: (-counts[pair], tokens[pair[0]], tokens[pair[1]])
            ),
            "Ties go to the pair that sorts first: the rule asks for the one that sorts last.",
        ),
        WrongAnswer(
            lambda counts, tokens: max(
                counts, key=lambda pair: (counts[pair], tokens[pair[0]] + tokens[pair[1]])
            ),
            "Ties are settled by the joined bytes: compare the left tokens, then the right ones.",
        ),
        WrongAnswer(
            lambda counts, tokens: max(
                counts, key=lambda pair: (tokens[pair[0]], tokens[pair[1]], counts[pair])
            ),
            "The order of the tokens comes before the counts: it only settles ties.",
        ),
    ),
    hints=(
        "max takes a key. By what should two pairs be compared first, and by what in a tie?",
        "Tuples compare item by item: the count, the bytes of one token, the bytes of the other.",
    ),
)


def _join_pair(word: list[int], pair: IdPair, new: int) -> list[int]:
    """`word` with every occurrence of `pair`, from the left, replaced by `new`."""
    joined: list[int] = []
    i = 0
    while i < len(word):
        found = tuple(word[i : i + 2]) == pair
        joined.append(new if found else word[i])
        i += 2 if found else 1
    return joined


def _join_first(word: list[int], pair: IdPair, new: int) -> list[int]:
    places = [i for i, near in enumerate(pairwise(word)) if near == pair]
    return [*word[: places[0]], new, *word[places[0] + 2 :]] if places else list(word)


def _join_keeping_right(word: list[int], pair: IdPair, new: int) -> list[int]:
    """The bug of a loop that doesn't step over the right token."""
    replaced = [new if near == pair else near[0] for near in pairwise(word)]
    return replaced + word[-1:]


JOIN_PAIR = Exercise(
    id="03.join_pair",
    cases=(
        ([1, 2], (1, 2), 256),
        ([3, 1, 2, 4], (1, 2), 256),
        ([1, 2, 1, 2], (1, 2), 256),
        ([2, 1], (1, 2), 256),
        ([5, 5, 5], (5, 5), 256),
        ([1], (1, 2), 256),
        ([], (1, 2), 256),
    ),
    reference=_join_pair,
    wrong_answers=(
        WrongAnswer(
            _join_first,
            "Only the first occurrence is joined: a merge joins every one of them.",
        ),
        WrongAnswer(
            lambda word, pair, new: _join_pair(word[::-1], pair[::-1], new)[::-1],
            "This joins from the right: of three equal tokens, the first two become one.",
        ),
        WrongAnswer(
            _join_keeping_right,
            "The right token of a joined pair stays in the word: step over both.",
        ),
        WrongAnswer(
            lambda word, pair, new: [new if id in pair else id for id in word],
            "Each token of the pair is replaced on its own: the two must stand side by side.",
        ),
        WrongAnswer(
            lambda word, pair, new: _join_pair(_join_pair(word, pair, new), pair[::-1], new),
            "The pair is joined in the other order, too: (2, 1) stays as it is.",
        ),
    ),
    hints=(
        "Walk along the word with an index. What is there to compare at each place?",
        "After a join the index moves on by two places, otherwise by one. Mind the last token.",
    ),
)


def _encode_by_rank(pretoken: bytes, merges: dict[IdPair, int]) -> list[int]:
    """The ids of `pretoken`: join the pair of the lowest new id, as long as there is one."""
    return _encode(pretoken, merges, lambda ids, known: min(known, key=lambda pair: merges[pair]))


def _encode(pretoken, merges, choose) -> list[int]:
    ids = list(pretoken)
    while known := [pair for pair in pairwise(ids) if pair in merges]:
        pair = choose(ids, known)
        ids = _join_pair(ids, pair, merges[pair])
    return ids


def _encode_longest(pretoken: bytes, merges: dict[IdPair, int]) -> list[int]:
    tokens = {id: bytes([id]) for id in range(256)}
    for (left, right), new in merges.items():
        tokens[new] = tokens[left] + tokens[right]
    ids, rest = [], pretoken
    while rest:
        best = max(
            (id for id in tokens if rest.startswith(tokens[id])), key=lambda i: len(tokens[i])
        )
        ids.append(best)
        rest = rest[len(tokens[best]) :]
    return ids


def _encode_one_pass(pretoken: Iterable[int], merges: dict[IdPair, int]) -> list[int]:
    """Each place once, from the left: a join is never joined again."""
    ids, i, word = [], 0, list(pretoken)
    while i < len(word):
        new = merges.get((word[i], word[i + 1])) if i + 1 < len(word) else None
        ids.append(word[i] if new is None else new)
        i += 1 if new is None else 2
    return ids


def _encode_passes(chunk: bytes, merges: dict[IdPair, int]) -> list[int]:
    """`_encode_one_pass`, again and again until nothing changes."""
    before: list[int] = []
    word = list(chunk)
    while word != before:
        before, word = word, _encode_one_pass(word, merges)
    return word


def _encode_from_left(chunk: bytes, merges: dict[IdPair, int]) -> list[int]:
    """Joins as soon as the last two ids have a token."""
    ids: list[int] = []
    for byte in chunk:
        ids.append(byte)
        while len(ids) > 1 and (ids[-2], ids[-1]) in merges:
            ids[-2:] = [merges[ids[-2], ids[-1]]]
    return ids


_A, _B, _C, _D = b"abcd"

ENCODE_BY_RANK = Exercise(
    id="03.encode_by_rank",
    cases=(
        (b"ab", {(_A, _B): 256}),
        (b"xyz", {(_A, _B): 256}),
        (b"abc", {(_B, _C): 256, (_A, _B): 257}),
        (b"abc", {(_A, _B): 256, (256, _C): 257}),
        (b"abcd", {(_B, _C): 256, (_A, _B): 257, (_C, _D): 258, (257, _C): 259}),
        (b"abcab", {(_A, _B): 256, (_B, _C): 257, (_C, _A): 258, (256, 258): 259}),
        (b"abcdab", {(_C, _D): 256, (_B, 256): 257, (_A, _B): 258}),
        (b"aaaaa", {(_A, _A): 256, (256, 256): 257}),
        (b"", {(_A, _B): 256}),
        (b"abc", {(_A, _B): 256, (_B, _C): 257}),
        (b"abc", {(_B, _C): 256, (_A, 256): 257, (_A, _B): 258}),
    ),
    reference=_encode_by_rank,
    wrong_answers=(
        WrongAnswer(
            lambda pretoken, merges: _encode(pretoken, merges, lambda ids, known: known[0]),
            "This joins the first pair that has a token: the earliest merge goes first, wherever "
            "it stands.",
        ),
        WrongAnswer(
            _encode_longest,
            "This takes the longest token that fits, from the left: the order of the merges "
            "decides, not the length.",
        ),
        WrongAnswer(
            lambda pretoken, merges: _encode(
                pretoken, merges, lambda ids, known: max(known, key=lambda pair: merges[pair])
            ),
            "The latest merge goes first: the smallest new id was learned first.",
        ),
        WrongAnswer(
            _encode_from_left,
            "This joins whatever stands first in the text: the pair that was learned first goes "
            "first, wherever it stands.",
        ),
        WrongAnswer(
            _encode_passes,
            "Each pass from the left joins every pair that has a token, whatever its rank: join "
            "one pair at a time, the one of the lowest id.",
        ),
        WrongAnswer(
            _encode_one_pass,
            "One pass from the left: what a join makes can be part of another join.",
        ),
        WrongAnswer(
            lambda pretoken, merges: list(pretoken),
            "These are the bytes: no merge has been applied.",
        ),
    ),
    hints=(
        "List the pairs in the word that have a merge. Which of them was learned first?",
        "Join that pair with your function of exercise 3.3, then look at the new word from the "
        "start, until no pair in it has a merge.",
    ),
)


def _encode_special(text: str, special_tokens: dict[str, int], allowed: list[str]) -> list[int]:
    """The ids of `text`: the allowed special tokens, the longest that fits, and bytes elsewhere."""
    return _encode_alternatives(text, special_tokens, sorted(allowed, key=len, reverse=True))


def _encode_alternatives(text, special_tokens, names) -> list[int]:
    ids: list[int] = []
    start = 0
    for match in re.finditer("|".join(map(re.escape, names)) or r"(?!)", text):
        ids += text[start : match.start()].encode()
        ids.append(special_tokens[match.group()])
        start = match.end()
    return ids + list(text[start:].encode())


def _encode_with_pattern(text, special_tokens, pattern, encode) -> list[int]:
    ids: list[int] = []
    for part in filter(None, re.split(f"({pattern or '(?!)'})", text)):
        ids += [special_tokens[part]] if part in special_tokens else encode(part)
    return ids


ENCODE_SPECIAL = Exercise(
    id="03.encode_special",
    cases=(
        ("ab", {"<e>": 256}, ["<e>"]),
        ("a<e>b", {"<e>": 256}, ["<e>"]),
        ("a<e>b", {"<e>": 256}, []),
        ("é<e>", {"<e>": 256}, ["<e>"]),
        ("<e><e>", {"<e>": 256}, ["<e>"]),
        ("<e>!", {"<e>": 256, "<e>!": 257}, ["<e>", "<e>!"]),
        ("<s>!a", {"<s>!": 256, "<s>": 257}, ["<s>!", "<s>"]),
        ("<u>hi<e>", {"<u>": 256, "<e>": 257}, ["<e>"]),
        ("<e", {"<e>": 256}, ["<e>"]),
        ("ab", {}, []),
        ("a<|e|>b", {"<|e|>": 256}, ["<|e|>"]),
    ),
    reference=_encode_special,
    wrong_answers=(
        WrongAnswer(
            lambda text, special_tokens, allowed: list(text.encode()),
            "Special tokens are read as ordinary text: each allowed one should become its id.",
        ),
        WrongAnswer(
            lambda text, special_tokens, allowed: _encode_special(
                text, special_tokens, list(special_tokens)
            ),
            "A special token that is not allowed became its id: whoever wrote the text has "
            "forged it.",
        ),
        WrongAnswer(
            lambda text, special_tokens, allowed: _encode_alternatives(
                text, special_tokens, allowed
            ),
            "The first name in the list wins: where one begins another, the longer one should.",
        ),
        WrongAnswer(
            lambda text, special_tokens, allowed: _encode_alternatives(
                text, special_tokens, sorted(allowed, key=len)
            ),
            "The shortest special token wins: where one begins another, the longest should.",
        ),
        WrongAnswer(
            lambda text, special_tokens, allowed: [
                id for id in _encode_special(text, special_tokens, allowed) if id < 256
            ],
            "Special tokens disappear: splitting the text at them also removes them.",
        ),
        WrongAnswer(
            lambda text, special_tokens, allowed: _encode_with_pattern(
                text, special_tokens, "|".join(map(re.escape, allowed)), lambda part: map(ord, part)
            ),
            "The rest is written as code points: é is one code point and two bytes.",
        ),
        WrongAnswer(
            lambda text, special_tokens, allowed: _encode_with_pattern(
                text, special_tokens, "|".join(sorted(allowed, key=len)[::-1]), str.encode
            ),
            'The names are read as patterns: the bar in <|e|> means "or". See re.escape.',
        ),
    ),
    hints=(
        "At each position of the text: does an allowed special token begin here? If several do, "
        "which one wins?",
        "re.finditer finds them if the alternatives are in the right order and re.escape has made "
        "their characters literal. What lies between two matches is bytes.",
    ),
)


def _bytes_per_token(texts: list[str], encoded: list[list[int]]) -> float:
    """The bytes of all texts over the number of all ids."""
    return sum(len(text.encode()) for text in texts) / sum(len(ids) for ids in encoded)


BYTES_PER_TOKEN = Exercise(
    id="03.bytes_per_token",
    cases=(
        (["abcd"], [[256]]),
        (["abéabé"], [[256, 195, 169, 256, 195, 169]]),
        (["abcdef", "ab"], [[256, 257], [97, 98]]),
        (["abcdefgh", "ab", "é"], [[300], [97, 98], [195, 169]]),
    ),
    reference=_bytes_per_token,
    wrong_answers=(
        WrongAnswer(
            lambda texts, encoded: sum(map(len, texts)) / sum(map(len, encoded)),
            "These are characters per token: é is one character and two bytes.",
        ),
        WrongAnswer(
            lambda texts, encoded: 1 / _bytes_per_token(texts, encoded),
            "These are tokens per byte: the fraction is upside down.",
        ),
        WrongAnswer(
            lambda texts, encoded: (
                sum(len(t.encode()) / len(ids) for t, ids in zip(texts, encoded, strict=True))
                / len(texts)
            ),
            "This is the mean of each text's ratio, in which a short text counts as much as a "
            "long one: divide the sums.",
        ),
        WrongAnswer(
            lambda texts, encoded: sum(len(t.encode()) for t in texts) / len(set().union(*encoded)),
            "Every id is counted once: a token that occurs twice is two tokens of the text.",
        ),
    ),
    hints=(
        "How long is é in bytes? str.encode turns a text into bytes.",
        "Add up all bytes, add up all tokens, and divide once, at the end.",
    ),
)

EXERCISES = (
    COUNT_PAIR,
    BEST_PAIR,
    JOIN_PAIR,
    ENCODE_BY_RANK,
    ENCODE_SPECIAL,
    BYTES_PER_TOKEN,
)
