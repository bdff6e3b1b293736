"""The BPE stepper: its merges and ids are the package's, and everyone can use it. SPEC E11, A1."""

import random
from collections import Counter

import pytest

from benchmarks.naive_bpe import learn_merges_naively
from transformer_lessons.tokenizers.bpe_encoding import apply_merges
from transformer_lessons.tokenizers.bpe_training import learn_merges
from transformer_lessons.tokenizers.pretokenizer import pretokenize

from .explorer_page import check_accessible, check_fits, tab

WIDGET = "bpe-stepper"
TEXT = " ".join(["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3)
# Few letters make many ties; the others are of two, three and four bytes, and white space of every
# kind that JavaScript and Python disagree about.
ALPHABETS = {
    "ties": "ab",
    "words": "aab  c'st.,1\n",
    "accents": "eéèñ̈ ",
    "scripts": "日本語 שלום نص १२",
    "emoji": "👩🚀‍❤️🇳🇱 !",
    "space": "x \n\t\r\x85\xa0\x1c\u2028\u3000\ufeff\u200b",
}


def random_texts(alphabet: str) -> list[str]:
    generator = random.Random(alphabet)
    lengths = [1, 2, 3, 5, 8, 13, 40, 40, 200, 200]
    return ["".join(generator.choices(alphabet, k=length)) for length in lengths]


def counts_of(text: str) -> Counter[bytes]:
    return Counter(chunk.encode() for chunk in pretokenize(text, "gpt2"))


def press(page, name: str, times: int = 1):
    for _ in range(times):
        page.get_by_role("button", name=name, exact=True).click()


def text_field(page):
    return page.get_by_label("Your text")


def other_field(page):
    return page.get_by_label("Encode another text with these merges")


def seen(page, rows: str) -> list[list[str]]:
    """The boxes in each of `rows`, as they are seen."""
    boxes = "rows => rows.map(row => [...row.querySelectorAll('.tl-box')].map(b => b.textContent))"
    return page.locator(rows).evaluate_all(boxes)


def spoken(page, rows: str) -> list[str]:
    return page.locator(f"{rows} .tl-spoken").all_text_contents()


def told(page) -> str:
    return page.locator("[aria-live=polite]").inner_text()


def written(token: bytes) -> str:
    """A token of ASCII letters and spaces, as its box shows it."""
    return token.decode().replace(" ", "␣")


# ---- The functions -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALPHABETS)
def test_chunks_are_the_packages(widget, kind):  # SPEC E11
    texts = random_texts(ALPHABETS[kind])
    run = "texts => texts.map(text => TransformerLessons.bpe.split_text(text))"
    assert widget.evaluate(run, texts) == [pretokenize(text, "gpt2") for text in texts]


@pytest.mark.parametrize("kind", ALPHABETS)
def test_merges_are_the_packages(widget, kind):  # SPEC E11, A1
    run = """([chunks, n]) =>
      TransformerLessons.bpe.learn_merges(new Map(chunks), n)"""
    for text in random_texts(ALPHABETS[kind]):
        counts = counts_of(text)
        chunks = [[chunk.decode("latin-1"), count] for chunk, count in counts.items()]
        for n_merges in (0, 1, 7, 10_000):
            found = widget.evaluate(run, [chunks, n_merges])
            merges = [tuple(token.encode("latin-1") for token in pair) for pair in found]
            assert merges == learn_merges(counts, n_merges)
            assert merges == learn_merges_naively(counts, n_merges)


@pytest.mark.parametrize("kind", ALPHABETS)
def test_tokens_and_ids_are_the_packages(widget, kind):  # SPEC E11, A1
    """Merges of one text, applied to it and to the others."""
    run = """([text, n, others]) => {
      const { count_chunks, learn_merges, encode } = TransformerLessons.bpe;
      const merges = learn_merges(count_chunks(text), n);
      return others.map((other) => encode(other, merges).map((chunk) =>
        chunk.map(({ token, id }) => [token, id])));
    }"""
    *others, text = random_texts(ALPHABETS[kind])
    for n_merges in (0, 3, 30, 10_000):
        merges = learn_merges(counts_of(text), n_merges)
        ranks = {left + right: rank for rank, (left, right) in enumerate(merges)}
        ids = {bytes([byte]): byte for byte in range(256)}
        ids |= {token: 256 + rank for token, rank in ranks.items()}
        expected = [
            [
                [[token.decode("latin-1"), ids[token]] for token in apply_merges(chunk, ranks)]
                for chunk in (chunk.encode() for chunk in pretokenize(other, "gpt2"))
            ]
            for other in (*others, text)
        ]
        assert widget.evaluate(run, [text, n_merges, [*others, text]]) == expected


def test_a_tie_goes_to_the_greater_pair(widget):  # SPEC A1
    """The left token decides, then the right one; of two, the one that goes on is greater."""
    run = """words => TransformerLessons.bpe.ranked_pairs(
      words.map((tokens) => ({ tokens, count: 3 }))).map(({ pair }) => pair)"""
    pairs = [["ab", "a"], ["a", "ÿ"], ["a", "b"], ["é", "a"], ["ab", "ab"]]
    assert widget.evaluate(run, pairs) == sorted(pairs, reverse=True)


def test_overlapping_pairs_join_from_the_left(widget):
    run = "TransformerLessons.bpe.join_pair(['a', 'a', 'a', 'b', 'a', 'a'], ['a', 'a'])"
    assert widget.evaluate(run) == ["aa", "a", "b", "aa"]


def test_half_a_surrogate_pair_has_no_bytes(widget):
    run = """() => { try { TransformerLessons.bpe.utf8_bytes("👩a\\ud83d!"); }
      catch (error) { return error.message; } }"""
    assert widget.evaluate(run) == "character 3 is half of a surrogate pair, which has no bytes"


@pytest.mark.parametrize(
    ("token", "shown", "said"),
    [
        (b" low", ["␣", "l", "o", "w"], "space low"),
        (b"\n\t\n", ["↵", "⇥", "↵"], "line break tab line break"),
        ("né日👩".encode(), ["n", "é", "日", "👩"], "né日👩"),
        (b"a\xc3", ["a", "C3"], "a byte C3"),
        (b"\xa9e", ["A9", "e"], "byte A9 e"),
        ("👩".encode()[1:], ["9F", "91", "A9"], "byte 9F byte 91 byte A9"),
        ("\x00\x7f\u200d\u00a0".encode(), ["00", "7F", "E2", "80", "8D", "C2", "A0"], None),
        ("e\u0301\u0301".encode(), ["e", "\u0301", "\u0301"], None),
        ("\u0301".encode() + b"\xcc", ["◌\u0301", "CC"], None),
        ("\ufffd".encode(), ["\ufffd"], None),
    ],
)
def test_a_token_is_shown_as_characters_where_they_are_whole_and_visible(
    widget, token, shown, said
):  # SPEC E11
    run = """token => {
      const { characters, said } = TransformerLessons.bpe_pieces;
      return [characters(token).map(({ shown }) => shown), said(token)];
    }"""
    found = widget.evaluate(run, token.decode("latin-1"))
    assert found == [shown, found[1] if said is None else said]


# ---- Steps ---------------------------------------------------------------------------------------


def test_it_starts_with_bytes(widget):  # SPEC E11
    assert text_field(widget).input_value() == TEXT
    assert widget.get_by_text("After 0 merges: 94 bytes in 94 tokens, 1.00 bytes").is_visible()
    assert spoken(widget, ".tl-chunks li")[0] == "6 times: space, n, e, w, e, s, t"
    chunks = ["␣newest", "␣low", "␣widest", "␣lower", "low"]
    assert seen(widget, ".tl-chunks li") == [list(chunk) for chunk in chunks]
    counts = widget.locator(".tl-chunks .tl-times").all_text_contents()
    assert counts == ["6 ×", "4 ×", "3 ×", "2 ×", "1 ×"]
    assert widget.get_by_text("Chunks: 16, of 5 kinds").is_visible()
    assert seen(widget, ".tl-merges li") == []


def test_steps_are_the_packages_merges(widget):  # SPEC E11, A1
    merges = learn_merges(counts_of(TEXT), 30)
    assert len(merges) == 15  # until no pair is left
    n_tokens = []
    for n, (left, right) in enumerate(merges):
        winner = seen(widget, ".tl-pairs .tl-winner")
        assert winner == [[written(left), written(right)]]
        framed = seen(widget, ".tl-chunks .tl-next")
        assert {tuple(pair) for pair in framed} == {(written(left), written(right))}
        press(widget, "Step")
        assert seen(widget, ".tl-merges li")[-1] == [
            written(t) for t in (left, right, left + right)
        ]
        assert widget.locator(".tl-merges .tl-id").last.inner_text() == str(256 + n)
        assert set(widget.locator(".tl-new.tl-box").all_inner_texts()) == {written(left + right)}
        n_tokens.append(tokens_after(merges[: n + 1]))
        ratio = f"94 bytes in {n_tokens[-1]} tokens, {94 / n_tokens[-1]:.2f} bytes per token."
        assert widget.locator(".tl-reached").inner_text() == (
            f"After {n + 1} merge{'s' if n else ''}: {ratio}"
        )
        assert told(widget).startswith(f"Merge {n + 1}, id {256 + n}: ")
        assert told(widget).endswith(ratio)
    assert n_tokens[-1] == 16
    widget.get_by_role("button", name="Step").click(force=True)
    assert widget.get_by_role("status").get_by_text("No pair is left: each chunk").is_visible()
    assert len(seen(widget, ".tl-merges li")) == len(merges)


def tokens_after(merges) -> int:
    """How many tokens the starting text has with `merges`."""
    ranks = {left + right: rank for rank, (left, right) in enumerate(merges)}
    return sum(n * len(apply_merges(chunk, ranks)) for chunk, n in counts_of(TEXT).items())


def test_the_table_has_the_most_frequent_pairs(widget):  # SPEC E11
    press(widget, "Step", times=2)
    assert seen(widget, ".tl-pairs tbody tr") == [
        *(["o", "w"], ["l", "o"], ["w", "est"], ["n", "e"], ["e", "w"]),
    ]
    cells = widget.locator(".tl-pairs td").all_inner_texts()
    assert cells[::2] == ["7", "7", "6", "6", "6"]
    assert cells[1::2] == ["joined next", "same count", "", "", ""]
    assert widget.get_by_text("and 8 other pairs").is_visible()


# (text, merges made before, what decides the next, as it is read out)
TIES = [
    (TEXT, 0, "2 pairs occur 9 times. Same count: the greater pair wins. "
     "Left tokens are compared first: s has byte 115 where e has 101."),
    (TEXT, 4, "5 pairs occur 6 times. Same count: the greater pair wins. "
     "Left tokens are compared first: w has byte 119 where n has 110."),
    ("ab.ac,ab.ac", 0, "2 pairs occur twice. Same count: the greater pair wins. "
     "The left tokens are the same; of the right, c has byte 99 where b has 98."),
    ("ab.ab.abc.ad", 1, "2 pairs occur once. Same count: the greater pair wins. Left tokens are "
     "compared first: ab begins with all of a and goes on. "
     "From here on, merges learn this text by heart."),
    ("aaa", 0, ""),
    ("ab", 0, "From here on, merges learn this text by heart."),
    ("ab", 1, "No pair is left: each chunk is one token."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "n_before", "reason"), TIES)
def test_ties_are_explained(widget, text, n_before, reason):  # SPEC E11
    text_field(widget).fill(text)
    press(widget, "Step", times=n_before)
    heard = """p => { const copy = p.cloneNode(true);
      copy.querySelectorAll("[aria-hidden]").forEach((seen) => seen.remove());
      return copy.textContent.trim(); }"""
    assert widget.locator(".tl-tie").evaluate(heard) == reason


def test_run_back_and_reset(widget):  # SPEC E11
    merges = [[written(left), written(right)] for left, right in learn_merges(counts_of(TEXT), 15)]

    def learned():
        return [boxes[:2] for boxes in seen(widget, ".tl-merges li")]

    press(widget, "Run 10")
    assert learned() == merges[:10]
    assert told(widget).startswith("Merge 1, id 256: s and t, 9 times. Merge 2, id 257: e and st, ")
    assert "Merge 10, id 265: w and i, 3 times. 94 bytes in " in told(widget)
    press(widget, "Back", times=3)
    assert learned() == merges[:7]
    assert told(widget).startswith("1 merge taken back. 94 bytes in ")
    press(widget, "Run 10")
    assert learned() == merges  # all there are, 15
    press(widget, "Reset")
    assert learned() == []
    assert told(widget) == "15 merges taken back. 94 bytes in 94 tokens, 1.00 bytes per token."
    assert text_field(widget).input_value() == TEXT
    press(widget, "Step")
    assert learned() == merges[:1]


def test_buttons_that_can_do_nothing_say_so(widget):
    disabled = "buttons => buttons.map(b => b.getAttribute('aria-disabled'))"
    buttons = widget.get_by_role("group", name="Merges").locator("button")
    assert buttons.evaluate_all(disabled) == ["false", "true", "false", "true"]
    widget.get_by_role("button", name="Back").click(force=True)
    assert widget.get_by_role("status").get_by_text("There is no merge to take back").is_visible()
    press(widget, "Run 10", times=2)
    assert buttons.evaluate_all(disabled) == ["true", "false", "true", "false"]
    assert widget.get_by_text("There is no merge to take back").count() == 0


def test_the_line_is_the_bytes_per_token(widget):  # SPEC E11
    press(widget, "Step", times=5)
    merges = learn_merges(counts_of(TEXT), 5)
    ratios = [94 / tokens_after(merges[:n]) for n in range(6)]
    points = widget.locator(".tl-curve").get_attribute("points").split(" ")
    xs, ys = zip(*(map(float, point.split(",")) for point in points), strict=True)
    levels = widget.locator(".tl-axis").evaluate_all("all => all.map(e => +e.getAttribute('y1'))")
    assert len(levels) == 3  # 0, 1 and 2 bytes
    one = levels[0] - levels[1]
    assert [(levels[0] - y) / one for y in ys] == pytest.approx(ratios)
    assert [x - xs[0] for x in xs] == pytest.approx([30 * n for n in range(6)])
    name = f"Bytes per token: 1.00 before the first merge, {ratios[-1]:.2f} after 5 merges"
    assert widget.get_by_role("img", name=name).is_visible()
    assert widget.locator(".tl-now").text_content() == f"{ratios[-1]:.2f}"


# ---- The reader's texts --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["accents", "scripts", "emoji", "space"])
def test_any_text_can_be_stepped_through(widget, kind):  # SPEC E11, A1
    text = random_texts(ALPHABETS[kind])[-1].replace("\r", "")  # a field has no \r
    press(widget, "Step")
    text_field(widget).fill(text)
    text_field(widget).blur()
    assert told(widget).startswith("The merges start over.")
    press(widget, "Run 10")
    merges = learn_merges(counts_of(text), 10)
    expected = widget.evaluate(
        """pairs => pairs.map(([left, right]) => [left, right, left + right].map((token) =>
          TransformerLessons.bpe_pieces.characters(token).map(({ shown }) => shown).join("")))""",
        [[token.decode("latin-1") for token in pair] for pair in merges],
    )
    assert seen(widget, ".tl-merges li") == expected
    n_bytes = len(text.encode())
    assert f"After 10 merges: {n_bytes:,} bytes in " in widget.locator(".tl-reached").inner_text()


def test_a_text_that_does_not_fit_is_named_and_not_used(widget):
    press(widget, "Step")
    field = text_field(widget)
    before = seen(widget, ".tl-chunks li")
    for text, problem in [
        ("", "Needs at least one character."),
        ("a" * 2001, "Needs at most 2,000 characters, and this has 2,001."),
        ("👩" * 2001, "Needs at most 2,000 characters, and this has 2,001."),
    ]:
        field.fill(text)
        assert widget.get_by_text(f"{problem} The text before is still in use.").is_visible()
        assert (field.input_value(), field.get_attribute("aria-invalid")) == (text, "true")
        assert seen(widget, ".tl-chunks li") == before
    field.blur()
    assert told(widget).startswith("Merge 1, ")  # nothing has started over
    field.evaluate("e => { e.value = 'ab\\ud83d'; e.dispatchEvent(new Event('input')); }")
    assert widget.get_by_text("Character 3 is half of a surrogate pair").is_visible()
    field.fill(TEXT)  # back to what is in use: the merge is kept
    assert field.get_attribute("aria-invalid") == "false"
    assert widget.locator("#" + field.get_attribute("aria-describedby")).inner_text() == ""
    assert len(seen(widget, ".tl-merges li")) == 1
    field.fill("👩" * 2000)
    assert widget.get_by_text("After 0 merges: 8,000 bytes in 8,000 tokens").is_visible()


def test_another_text_is_encoded_with_the_merges_so_far(widget):  # SPEC E11
    def encoded():
        ids = widget.locator(".tl-encoded .tl-id").all_inner_texts()
        return [box for (box,) in seen(widget, ".tl-encoded li")], list(map(int, ids))

    assert encoded() == (list("lowest␣newer"), list(b"lowest newer"))
    press(widget, "Step", times=4)
    assert encoded() == (["low", "est", *"␣newer"], [259, 257, *b" newer"])
    assert widget.get_by_text("12 bytes in 8 tokens, 1.50 bytes per token.").is_visible()
    other_field(widget).fill("low é low")
    other_field(widget).blur()
    assert encoded() == (["low", "␣", "C3", "A9", "␣", "low"], [259, 32, 195, 169, 32, 259])
    starts = "lis => lis.flatMap((li, i) => li.classList.contains('tl-first') ? [i] : [])"
    assert widget.locator(".tl-encoded li").evaluate_all(starts) == [0, 1, 4]
    assert spoken(widget, ".tl-encoded li")[:3] == ["low: 259", "space: 32", "byte C3: 195"]
    assert told(widget).startswith("10 bytes in 6 tokens, 1.67 bytes per token.")
    press(widget, "Back")
    assert encoded()[1] == [108, 258, 32, 195, 169, 32, 108, 258]


def test_another_text_may_be_empty_but_not_too_long(widget):
    field = other_field(widget)
    field.fill("")
    assert widget.get_by_text("No text, no tokens.").is_visible()
    assert field.get_attribute("aria-invalid") == "false"
    field.fill("b" * 2001)
    assert widget.get_by_text("Needs at most 2,000 characters, and this has 2,001.").is_visible()
    assert field.get_attribute("aria-invalid") == "true"
    assert seen(widget, ".tl-encoded li") == []


# ---- For everyone --------------------------------------------------------------------------------


def test_everything_can_be_done_with_the_keyboard(widget):  # SPEC G11
    tab(widget, "Your text")
    widget.keyboard.press("Control+a")
    widget.keyboard.type("aaa aaa")
    tab(widget, "Step")
    widget.keyboard.press("Enter")
    widget.keyboard.press("Space")
    assert seen(widget, ".tl-merges li") == [["a", "a", "aa"], ["aa", "a", "aaa"]]
    tab(widget, "Back")
    widget.keyboard.press("Enter")
    assert seen(widget, ".tl-merges li") == [["a", "a", "aa"]]
    tab(widget, "Run 10")
    widget.keyboard.press("Enter")
    assert seen(widget, ".tl-merges li")[1:] == [["aa", "a", "aaa"], ["␣", "aaa", "␣aaa"]]
    tab(widget, "Reset")
    widget.keyboard.press("Enter")
    assert seen(widget, ".tl-merges li") == []
    assert widget.locator(":focus").inner_text() == "Reset"  # focus stays where it was
    tab(widget, "Chunks: 2, of 2 kinds")
    tab(widget, "Merges so far")
    tab(widget, "Encode another text")
    widget.keyboard.press("Control+a")
    widget.keyboard.type("a")
    assert seen(widget, ".tl-encoded li") == [["a"]]
    tab(widget, "Tokens and ids")


def test_accessible_in_light_and_dark(widget):  # SPEC G11
    text_field(widget).fill(f"{TEXT} café café 日本")
    press(widget, "Run 10")
    other_field(widget).fill("b" * 2001)
    check_accessible(widget)
    text_field(widget).fill("ab")
    press(widget, "Step")
    widget.get_by_role("button", name="Step").click(force=True)  # the message: nothing is left
    check_accessible(widget, more_than=15)


def test_what_is_seen_is_read_out_once(widget):  # SPEC G11
    """Boxes are hidden from screen readers, and each has its words beside it."""
    press(widget, "Step", times=3)
    boxes = widget.locator(".tl-box")
    assert boxes.count() > 40
    outside = "all => all.filter(e => !e.closest('.tl-told > [aria-hidden=true]')).length"
    assert boxes.evaluate_all(outside) == 0
    assert spoken(widget, ".tl-merges li")[2] == "Merge 3, id 258: o and w, 7 times"
    assert spoken(widget, ".tl-pairs tr")[0] == "l and ow"
    assert spoken(widget, ".tl-chunks li")[-1] == "once: l, ow"


LONG = "a" * 2000


@pytest.mark.parametrize("text", [TEXT, LONG, "👩" * 300 + " é日" * 300])
def test_no_page_is_wider_than_its_screen(widget, text):  # SPEC G11
    widget.set_viewport_size({"width": 320, "height": 800})
    text_field(widget).fill(text)
    other_field(widget).fill(text[:300])
    press(widget, "Run 10")
    cut_off = """() => [...document.querySelectorAll(".tl-scrolls, .tl-pairs, .tl-pairs th")]
      .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.className)"""
    for width in (320, 360, 768):
        check_fits(widget, width)
        assert widget.evaluate(cut_off) == []


def test_long_lists_scroll_and_the_last_merge_is_in_view(widget):
    press(widget, "Run 10")
    merges = widget.get_by_role("list", name="Merges so far, with their ids")
    box, last = merges.bounding_box(), merges.locator("li").last.bounding_box()
    assert merges.evaluate("e => e.scrollHeight > e.clientHeight")
    assert last["y"] + last["height"] <= box["y"] + box["height"] + 1
