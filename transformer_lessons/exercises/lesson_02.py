"""The exercises of lesson 02: the bits of UTF-8, and what is learned of a pair."""

from transformer_lessons.exercises.exercise import Exercise, WrongAnswer


def _utf8_length(code_point: int) -> int:
    """How many bytes UTF-8 needs for the character with this code point, 1 to 4."""
    if code_point < 0x80:
        return 1
    if code_point < 0x800:
        return 2
    return 3 if code_point < 0x10000 else 4


def _length_with_limits(code_point: int, limits: tuple[int, ...]) -> int:
    return 1 + sum(code_point >= limit for limit in limits)


UTF8_LENGTH = Exercise(
    id="02.utf8_length",
    cases=tuple(
        (n,) for n in (0, 0x61, 0x7F, 0x80, 0xE9, 0x7FF, 0x800, 0x20AC, 0xFFFF, 0x10000, 0x1F642)
    ),
    reference=_utf8_length,
    wrong_answers=(
        WrongAnswer(
            lambda code_point: _length_with_limits(code_point, (0x100, 0x10000, 0x1000000)),
            "This fills all eight bits of every byte: some of them are markers, not part of the "
            "number.",
        ),
        WrongAnswer(
            lambda code_point: _length_with_limits(code_point, (0x81, 0x801, 0x10001)),
            "One too far at each limit: 7 bits hold 0 to 127, and 128 is the first to need more.",
        ),
        WrongAnswer(
            lambda code_point: _length_with_limits(code_point, (0x80, 0x4000, 0x200000)),
            "Seven bits for every byte: only ASCII has seven, a continuation byte has six.",
        ),
        WrongAnswer(
            lambda code_point: _length_with_limits(code_point, (0x80, 0x1000, 0x40000)),
            "Six bits for the leading byte as well: its markers leave it five, four or three.",
        ),
        WrongAnswer(
            lambda code_point: 2 if code_point < 0x10000 else 4,
            "That is UTF-16, which has two bytes or four: UTF-8 starts with one.",
        ),
        WrongAnswer(
            lambda code_point: _length_with_limits(code_point, (0x80, 0x800)),
            "Emoji and other code points from U+10000 on need a fourth byte.",
        ),
    ),
    hints=(
        "Count the x in each of the four patterns: that is how many bits of the number fit in.",
        "n bits hold the numbers below 2 to the power of n. Which is the first that doesn't fit?",
    ),
)


def _decode_character(data: bytes) -> int:
    """The code point of one character from its one to four bytes."""
    if len(data) == 1:
        return data[0]
    code_point = data[0] % 2 ** (7 - len(data))
    for byte in data[1:]:
        code_point = code_point * 64 + byte % 64
    return code_point


def _joined(numbers: list[int], base: int) -> int:
    total = 0
    for number in numbers:
        total = total * base + number
    return total


def _without_markers(data: bytes) -> list[int]:
    lead = data[0] if len(data) == 1 else data[0] % 2 ** (7 - len(data))
    return [lead, *(byte % 64 for byte in data[1:])]


DECODE_CHARACTER = Exercise(
    id="02.decode_character",
    cases=tuple((character.encode(),) for character in "aé߿ࠀ€中🙂\U0010ffff"),
    reference=_decode_character,
    wrong_answers=(
        WrongAnswer(
            lambda data: int.from_bytes(data, "big"),
            "The markers are still in: this puts whole bytes together, not the bits of the number.",
        ),
        WrongAnswer(
            lambda data: _joined(_without_markers(data), 256),
            "Each continuation byte moves the number on by six bits, a factor of 64, not by eight.",
        ),
        WrongAnswer(
            lambda data: _joined(_without_markers(data)[::-1], 64),
            "The bits are put together back to front: the leading byte holds the highest ones.",
        ),
        WrongAnswer(
            lambda data: _joined([data[0], *(byte % 64 for byte in data[1:])], 64),
            "The leading byte keeps its markers: remove the ones at its front too.",
        ),
        WrongAnswer(
            lambda data: _joined([data[0] % 128, *(byte % 128 for byte in data[1:])], 64),
            "Only the first bit of each byte is removed: a marker is two bits or more.",
        ),
        WrongAnswer(
            lambda data: data[0] if len(data) == 1 else _joined([b % 64 for b in data], 64),
            "The leading byte is treated like a continuation byte: it has five bits or fewer.",
        ),
        WrongAnswer(
            lambda data: data[0],
            "This is the first byte alone: the other bytes hold bits of the number as well.",
        ),
    ),
    hints=(
        "Write the bytes of é in binary and cross out the markers. What is left is the number.",
        "A remainder drops the bits at the front of a number. Which power of two for which byte?",
        "Go from left to right: make room for six bits, then add the next six.",
    ),
)


def _count_characters(data: bytes) -> int:
    """How many code points a valid UTF-8 text has: its bytes that begin one."""
    return sum(byte // 64 != 0b10 for byte in data)


COUNT_CHARACTERS = Exercise(
    id="02.count_characters",
    cases=((b"a",), (b"",), ("é".encode(),), ("né€🙂!".encode(),), ("e\u0301\n".encode(),)),
    reference=_count_characters,
    wrong_answers=(
        WrongAnswer(
            lambda data: len(data),
            "These are the bytes: only one byte of each character begins it.",
        ),
        WrongAnswer(
            lambda data: sum(byte < 0x80 for byte in data),
            "Only ASCII is counted: characters of several bytes begin with a byte from C2 on.",
        ),
        WrongAnswer(
            lambda data: sum(byte >= 0xC0 for byte in data),
            "Only characters of several bytes are counted: a byte below 80 is a character too.",
        ),
        WrongAnswer(
            lambda data: sum(0x80 <= byte < 0xC0 for byte in data),
            "These are the continuation bytes: it is the other ones that begin a character.",
        ),
        WrongAnswer(
            lambda data: (
                sum(byte < 0x80 for byte in data) + sum(byte >= 0x80 for byte in data) // 2
            ),
            "Not every character beyond ASCII has two bytes: € has three, and an emoji four.",
        ),
    ),
    hints=(
        "In the grid of the 256 bytes, which colours can begin a character?",
        "It is easier to say which bytes not to count.",
    ),
)


def _incomplete_tail(data: bytes) -> int:
    """How many bytes at the end of a text that was cut belong to an unfinished character."""
    n_tail = 1
    while n_tail <= len(data) and data[-n_tail] // 64 == 0b10:
        n_tail += 1
    if n_tail > len(data):
        return 0
    lead = data[-n_tail]
    needed = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    return n_tail if n_tail < needed else 0


def _last_character(data: bytes) -> tuple[int, int]:
    """(how many bytes of the last character are there, how many it needs)."""
    if not data:
        return 0, 0
    start = max(place for place, byte in enumerate(data) if byte // 64 != 0b10)
    lead = data[start]
    return len(data) - start, 1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0)


INCOMPLETE_TAIL = Exercise(
    id="02.incomplete_tail",
    cases=(
        (b"",),
        (b"a",),
        (b"a\xc3",),
        (b"a\xc3\xa9",),
        (b"\xe2",),
        (b"\xe2\x82",),
        (b"\xe2\x82\xac",),
        (b"\xc3\xa9\xf0\x9f",),
        (b"\xf0\x9f\x99",),
        (b"\xf0\x9f\x99\x82",),
        (b"\xf0\x9f\x99\x82\xe2\x82",),
    ),
    reference=_incomplete_tail,
    wrong_answers=(
        WrongAnswer(
            lambda data: next((i for i, b in enumerate(reversed(data)) if b // 64 != 2), 0),
            "These are the continuation bytes at the end: the leading byte has to wait as well, "
            "and a complete character has to wait for nothing.",
        ),
        WrongAnswer(
            lambda data: _last_character(data)[0] if data and data[-1] >= 0x80 else 0,
            "A complete character is held back too: compare what is there with what the leading "
            "byte announces.",
        ),
        WrongAnswer(
            lambda data: _last_character(data)[1] - _last_character(data)[0],
            "This is how many bytes are still missing, not how many are there already.",
        ),
        WrongAnswer(
            lambda data: int(bool(data) and data[-1] >= 0xC0),
            "Only a leading byte in the last place is seen: further back there can be one as well.",
        ),
        WrongAnswer(
            lambda data: _last_character(data)[0] if _last_character(data) == (1, 2) else 0,
            "Characters of two bytes alone are handled: three and four can be cut as well.",
        ),
        WrongAnswer(
            lambda data: _last_character(data)[0],
            "The last character waits even when it is complete: compare its bytes with what its "
            "leading byte announces.",
        ),
        WrongAnswer(
            lambda data: max(_incomplete_tail(data) - 1, 0),
            "Only the continuation bytes are counted: the leading byte of an unfinished character "
            "waits with them.",
        ),
    ),
    hints=(
        "Go back from the end to the byte that begins the last character. How far is that?",
        "That byte says how many bytes its character has. Are they all there?",
        "What if the text is empty? What if its last character is ASCII?",
    ),
)


def _pair_targets(source: bytes, answer: bytes) -> tuple[list[int], list[int]]:
    """(inputs, targets), with -100 for the targets that lie in `source`."""
    tokens = list(source + answer)
    ignored = len(source) - 1
    return tokens[:-1], [-100] * ignored + tokens[1 + ignored :]


def _pair_with_ignored(source: bytes, answer: bytes, n_ignored: int) -> tuple[list[int], list[int]]:
    tokens = list(source + answer)
    return tokens[:-1], [-100] * n_ignored + tokens[1 + n_ignored :]


PAIR_TARGETS = Exercise(
    id="02.pair_targets",
    cases=((b"a", b"b"), (b"ab", b"cd"), (b"2+2=", b"4\n"), ("é".encode(), "€".encode())),
    reference=_pair_targets,
    wrong_answers=(
        WrongAnswer(
            lambda source, answer: _pair_with_ignored(source, answer, 0),
            "The question is learned too: targets inside the question are to be ignored.",
        ),
        WrongAnswer(
            lambda source, answer: _pair_with_ignored(source, answer, len(source)),
            "The first byte of the answer is ignored: it is the target of the last question byte.",
        ),
        WrongAnswer(
            lambda source, answer: (
                list(source + answer),
                [-100] * len(source) + list(answer),
            ),
            "Each token is asked for itself: a target is the token after its input.",
        ),
        WrongAnswer(
            lambda source, answer: (list(source), list(answer)),
            "The model has to see what it has written of the answer: both parts are one text.",
        ),
        WrongAnswer(
            lambda source, answer: (
                list(source + answer)[:-1],
                [0] * (len(source) - 1) + list(answer),
            ),
            "0 is a byte, so it would be learned: -100 marks a target that is ignored.",
        ),
        WrongAnswer(
            lambda source, answer: (
                [-100] * (len(source) - 1) + list(source[-1:] + answer)[:-1],
                [-100] * (len(source) - 1) + list(answer),
            ),
            "The inputs are hidden as well: the question is not learned, but the model must read "
            "it.",
        ),
    ),
    hints=(
        "Write question and answer as one row of tokens, and the token after it below each one.",
        "How many of these lower tokens still belong to the question?",
    ),
)

EXERCISES = (
    UTF8_LENGTH,
    DECODE_CHARACTER,
    COUNT_CHARACTERS,
    INCOMPLETE_TAIL,
    PAIR_TARGETS,
)
