"""The domains of `demo`: what the rules are, and how much of them a small model learns."""

import pytest

from transformer_lessons.cli.domains import Question, automaton, game, outcome, positions

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
    assert lines[-2] == "learned: of 100, 100% right, 100% allowed"
    assert lines[-1].startswith("held back: of 33, ")
    assert int(lines[-1].split("%")[0].split()[-1]) > 50


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
