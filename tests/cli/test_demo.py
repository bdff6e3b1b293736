"""The domains of `demo`: what the rules are, and how much of them a small model learns."""

import pytest

from transformer_lessons.cli.domains import (
    Question,
    automaton,
    game,
    outcome,
    positions,
    undecided,
)

RULES = {30: "00011110", 90: "01011010", 110: "01101110", 184: "10111000"}


@pytest.mark.parametrize("rule", RULES)
def test_rows_follow_the_rule_as_it_is_printed_in_books(rule):  # SPEC F13
    """The eight new cells stand below 111, 110, … 000, in this order (Wolfram 1983)."""
    new = dict(
        zip(("111", "110", "101", "100", "011", "010", "001", "000"), RULES[rule], strict=True)
    )
    for question in automaton(rule).questions:
        row = question.prompt.decode()
        threes = [(row[-1:] + row + row[0])[i : i + 3] for i in range(8)]
        assert question.right == {"".join(new[three] for three in threes).encode()}
    assert len(automaton(rule).questions) == 256


def test_perfect_play_of_tic_tac_toe_is_a_draw_and_mistakes_are_punished():  # SPEC F13
    assert outcome("." * 9, "X", "O") == 0
    assert outcome("XX.OO....", "X", "O") == 1
    assert outcome("XX.OO.X..", "O", "X") == 1
    assert outcome("X...O...X", "O", "X") == 0  # an edge holds it
    assert outcome("XO.......", "X", "O") == 1  # O had to answer in the middle


def test_a_perfect_player_never_loses_and_every_reply_is_met():  # SPEC F13
    questions = {question.prompt: question for question in positions()}
    assert questions[b"."].allowed == {b"%d" % n for n in range(9)}
    assert questions[b"."].right == questions[b"."].allowed  # every first move holds the draw
    for prompt, question in questions.items():
        assert question.right <= question.allowed
        taken = {prompt[i : i + 1] for i in range(1, len(prompt))}
        assert question.allowed == {b"%d" % n for n in range(9)} - taken
        if len(prompt) < 8:
            following = [
                p for p in questions if p[: len(prompt) + 1] == prompt + min(question.right)
            ]
            assert following or len(prompt) > 3  # but for games that X has won


def test_what_is_held_back_is_not_learned_from():
    learned, held_back = game().split()
    assert len(held_back) == (len(learned) + len(held_back)) // 4
    assert not {q.prompt for q in learned} & {q.prompt for q in held_back}
    assert all(isinstance(question, Question) for question in held_back)


def test_the_game_is_learned_and_the_demo_says_how_much(tmp_path, run_here):  # SPEC F13 F9
    done = run_here("demo", "--domain", "game", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-3] == "learned: of 100, 100% right, 100% allowed"
    held_back, never_shown = (int(line.split("%")[0].split()[-1]) for line in lines[-2:])
    assert lines[-2].startswith("held back: of 33, ")
    assert lines[-1].startswith("never shown, after any moves: of 200, ")
    assert 60 > held_back > never_shown > 20  # it knows 100 positions, and guesses at the others


def test_what_was_never_shown_is_of_another_kind():  # SPEC F13
    """Rows of another width, another rule, and games that a perfect X doesn't come into."""
    shown = {question.prompt: question.right for question in automaton(110).questions}
    foreign = automaton(110).beyond
    assert [len(questions) for questions in foreign.values()] == [128, 64, 256]
    assert {len(q.prompt) for q in foreign["never shown, rows of 7 cells"]} == {7}
    same = sum(q.right == shown[q.prompt] for q in foreign["never shown, rule 90"])
    assert same < 10
    known = {question.prompt for question in positions()}
    stray = game().beyond["never shown, after any moves"]
    assert sum(question.prompt in known for question in stray) < 20
    for question in stray:  # the board says what is free, and a perfect move is one of these
        taken = {question.prompt[i : i + 1] for i in range(1, len(question.prompt))}
        assert question.allowed == {b"%d" % n for n in range(9)} - taken
        assert question.right <= question.allowed


def test_of_a_text_only_what_the_model_sees_decides(tmp_path, run_here):  # SPEC F13 F5
    """After 16 a's, a 17th or the b may follow: of the 21 places, five look alike."""
    text = "a" * 20 + "b"
    assert undecided(text.encode(), 16) == 20 - 16 + 1
    assert undecided(text.encode(), 20) == undecided(b"ab", 16) == undecided(b"a", 1) == 0
    done = run_here("demo", "--text", text, cwd=tmp_path)
    assert "next bytes: of 21, 20 right" in done.stdout  # four a's of the five are guessed
    assert "They leave 5 of these open" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--domain", "chess"), "domain = 'chess' is not one of text, automaton, game (--domain)"),
        (("--domain", "automaton", "--rule", "256"), "rule = 256 is not from 0 to 255 (--rule)"),
        (("--steps", "0"), "steps = 0 is not an integer of at least 1 (--steps)"),
    ],
)
def test_bad_input_ends_with_one_line(tmp_path, run_here, arguments, expected):  # SPEC S9
    done = run_here("demo", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: {expected}\n")
