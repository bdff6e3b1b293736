"""What every widget does for readers who print it, want no motion, or run no scripts."""

import pytest

from .explorer_page import SCRIPTS, WIDGETS, count_moving, write_page


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
