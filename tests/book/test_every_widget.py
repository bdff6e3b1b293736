"""What every widget does for readers who print it, want no motion, or run no scripts."""

import pytest

from .explorer_page import SCRIPTS, WIDGETS, count_moving, open_in_article, write_page

# The page that follows a text is no widget in an article: each of its stages is one, and
# test_follow.py measures those.
IN_ARTICLES = [name for name in SCRIPTS if name != "follow"]


@pytest.fixture(params=SCRIPTS)
def address(tmp_path, request):
    return write_page(tmp_path, request.param)


def test_the_static_picture_gives_way_on_screen_and_returns_in_print(page, address):  # SPEC G11
    page.goto(address)
    picture, live = page.locator(".tl-fallback"), page.locator(".tl-widget")
    assert (picture.is_visible(), live.is_visible()) == (False, True)
    page.emulate_media(media="print")
    assert (picture.is_visible(), live.is_visible()) == (True, False)


def test_without_javascript_the_static_picture_stays(browser, address):  # SPEC G11
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator(".tl-fallback").is_visible()
    assert page.locator(".tl-widget").inner_text() == ""
    context.close()


def test_who_wants_no_motion_sees_none(page, address):  # SPEC G11
    page.emulate_media(reduced_motion="reduce")
    page.goto(address)
    for button in page.locator(".tl-widget button:enabled").all()[:1]:
        button.click()
    assert count_moving(page) == 0


@pytest.mark.parametrize(
    ("name", "lacking"),
    [
        ("first-model", "first_model_weights.js"),
        ("sampling-explorer", "sampling_scores.js"),
        ("head-explorer", "head_losses.js"),
        ("fixed-point-explorer", "first_model_weights.js"),
        ("quantization", "quantization_row.js"),
        ("byte-map", "byte_map_file.js"),
        ("chat-mask", "chat_mask_tokens.js"),
        ("reward-explorer", "reward_world.js"),
        ("scaling-explorer", "scaling_runs.js"),
    ],
)
def test_without_its_numbers_the_static_picture_stays(page, tmp_path, name, lacking):  # SPEC G11
    page.goto(write_page(tmp_path, name, without=lacking))
    assert page.locator(".tl-fallback").is_visible()
    assert page.locator(".tl-widget").inner_text() == ""


def test_the_scripts_are_plain_and_ask_nothing_of_the_network():
    # The scores are JSON, which test_sampling_explorer.py reads; "http" is one of their tokens.
    for path in set(WIDGETS.glob("*.js")) - {WIDGETS / "sampling_scores.js"}:
        text = path.read_text(encoding="utf-8")
        for word in ("fetch(", "XMLHttpRequest", "import ", "eval(", "innerHTML", "//cdn", "http"):
            assert word not in text, f"{path.name}: {word}"


def play_with(page, box):
    """Press each button that a reader can, choose each choice, move each slider to its ends."""
    for button in box.locator("button:visible").all()[:12]:
        if button.is_enabled() and button.get_attribute("aria-disabled") != "true":
            button.click()
            yield button.inner_text()
    for choice in box.locator(":is([type=radio], [type=checkbox]):visible:enabled").all():
        choice.click()
        yield choice.get_attribute("id")
    for slider in box.locator("input[type=range]:visible:enabled").all():
        slider.focus()
        for key in ("End", "Home"):
            page.keyboard.press(key)
            yield slider.get_attribute("id")


@pytest.mark.parametrize("name", IN_ARTICLES)
@pytest.mark.parametrize("width", [1280, 390])
def test_a_widget_keeps_its_height_while_it_is_played_with(page, tmp_path, name, width):  # E11
    box = open_in_article(page, tmp_path, name)
    page.set_viewport_size({"width": width, "height": 800})
    height = box.bounding_box()["height"]
    heights = {did: box.bounding_box()["height"] for did in play_with(page, box)}
    assert {did: h for did, h in heights.items() if abs(h - height) > 1} == {}


STOPS = """() => [...document.querySelectorAll(
  ".tl-widget :is(a[href], button, input, select, textarea, [tabindex='0'])")]
  .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.disabled)"""
# Of radio buttons with one name only one is a stop; the arrow keys lead to the others.
NUMBERED = (
    STOPS
    + """.map((e, i) => { e.dataset.stop = i; return e.type === "radio" ? e.name : `${i}`; })"""
)
# What reacts to a hand (a grip, a pointing finger) and has neither the focus nor a label or a part
# of something that has it. Bars that are dragged have sliders of their own.
ONLY_FOR_THE_MOUSE = """() => [...document.querySelectorAll(".tl-widget *")].filter((e) =>
  ["pointer", "grab"].includes(getComputedStyle(e).cursor)
  && !e.closest("a, button, input, select, label, summary, [tabindex]")
  && !e.matches("[data-tl-widget=byte-map] .tl-hex *") // its slider chooses the same bytes
  && !e.parentElement.closest("svg[role=img]") && e.tagName !== "svg").map((e) => e.outerHTML)"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_control_is_reached_and_left_with_the_tab_key(page, tmp_path, name):  # SPEC G11
    """One after the other in the order of the page, each with a visible outline, and then out."""
    page.goto(write_page(tmp_path, name))
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    names = page.evaluate(NUMBERED)
    reached = []
    while True:
        page.keyboard.press("Tab")
        found = page.evaluate("document.activeElement.dataset.stop")
        if found is None:
            break  # the button that comes after the widget
        reached.append(int(found))
        style = page.locator(":focus").evaluate(
            """e => [e, e.closest("label")].filter(Boolean).map(
              (x) => getComputedStyle(x).outlineStyle).find((x) => x !== "none")"""
        )
        assert style, names[int(found)]
    assert reached == sorted(reached)
    assert {names[i] for i in reached} == set(names)
    assert page.evaluate(ONLY_FOR_THE_MOUSE) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_arrow_keys_move_every_slider_and_choice(page, tmp_path, name):  # SPEC G11
    page.goto(write_page(tmp_path, name))
    for control in page.query_selector_all(".tl-widget :is([type=range], [type=radio]:checked)"):
        if not (control.is_visible() and control.is_enabled()):
            continue
        control.focus()
        before = control.evaluate("e => [e.value, e.checked]")
        at_end = control.evaluate("e => e.value === e.max")
        page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
        assert control.evaluate("e => [e.value, e.checked]") != before, control
