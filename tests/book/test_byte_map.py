"""The byte map: what it says of each byte is what our reader reads, and everyone can use it.

SPEC E14, G11.
"""

import base64
import re

import pytest
import torch
from page_bytes import small_file

from transformer_lessons.support.gguf_file import read_gguf
from transformer_lessons.weights.gguf_blocks import gguf_tensor

from .explorer_page import (
    WIDGETS,
    check_accessible,
    check_fits,
    number,
    open_in_article,
    tab,
)

WIDGET = "byte-map"


@pytest.fixture(scope="module")
def content():
    return small_file()


@pytest.fixture(scope="module")
def file(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "small.gguf"
    path.write_bytes(content)
    return read_gguf(path)


@pytest.fixture
def parts(widget):
    """What the script makes of the file."""
    return widget.evaluate(
        """() => { const { gguf_parts, small_gguf } = window.TransformerLessons;
        return gguf_parts(Uint8Array.from(atob(small_gguf), (c) => c.charCodeAt(0))); }"""
    )


def summary(page) -> str:
    return page.locator(".tl-summary").inner_text()


def choose(page, group, name):
    option = page.locator(f"optgroup[label='{group}'] option", has_text=name).first
    page.get_by_label("Part of the file").select_option(option.get_attribute("value"))


def marked(page) -> str:
    return " ".join(page.locator(".tl-hex .tl-now").all_inner_texts())


# ---- What it says --------------------------------------------------------------------------------


def test_the_script_holds_the_file(content):
    text = (WIDGETS / "byte_map_file.js").read_text(encoding="utf-8")
    assert base64.b64decode(text.split("`")[1]) == content
    assert len(text) < 20_000


def test_every_byte_belongs_to_one_field(parts, content):
    place = 0
    for part in parts:
        assert part["start"] == place
        for field in part["fields"]:
            assert field["start"] == place
            assert field["end"] > place
            place = field["end"]
        assert part["end"] == place
    assert place == len(content)


def test_the_metadata_is_what_our_reader_reads(parts, file):
    said = {part["name"]: part["fields"] for part in parts if part["group"] == "metadata"}
    assert said.keys() == file.metadata.keys()
    for name, value in file.metadata.items():
        last = said[name][-1]["words"]
        if isinstance(value, list):
            texts = [field["words"] for field in said[name] if "how long" not in field["words"]]
            shown = [
                f"element {i}: {f'“{v}”' if isinstance(v, str) else v}" for i, v in enumerate(value)
            ]
            assert texts[-len(value) :] == shown
            assert f"how many elements: {len(value)}" in texts
        elif isinstance(value, bool):
            assert last == f"value: {str(value).lower()}"
        elif isinstance(value, float):
            assert float(last.split(": ")[1]) == pytest.approx(value, rel=1e-3)
        else:
            assert last == (f"value: “{value}”" if isinstance(value, str) else f"value: {value}")


def test_the_weights_are_what_our_reader_reads(parts, file):
    said = {part["name"]: part["fields"] for part in parts if part["group"] == "data"}
    assert said.keys() == file.tensors.keys()
    for name, fields in said.items():
        words = [field["words"] for field in fields]
        shown = [w for w in words if w.startswith(("row", "number"))]
        numbers = torch.tensor([number(re.split("= |: ", text)[-1]) for text in shown])
        expected = gguf_tensor(file, name).flatten()
        torch.testing.assert_close(numbers, expected, rtol=1e-3, atol=1e-7)
        n_scales = sum("scale of the next 32" in text for text in words)
        assert n_scales == (len(expected) // 32 if file.tensors[name].type == "Q8_0" else 0)


def test_the_list_of_tensors_is_what_our_reader_reads(parts, file):
    said = {part["name"]: part["fields"] for part in parts if part["group"] == "list of tensors"}
    start = min(tensor.offset for tensor in file.tensors.values())
    for name, tensor in file.tensors.items():
        words = [field["words"] for field in said[name]]
        assert f"where it begins: byte {tensor.offset - start} of the data" in words
        assert any(text.endswith(f", {tensor.type}") for text in words)
        sizes = [int(text.split(": ")[1]) for text in words if text.startswith("size")]
        assert tuple(sizes[::-1]) == tensor.shape


# ---- What a reader does --------------------------------------------------------------------------


def test_it_starts_with_the_header(widget):
    assert summary(widget).startswith("Bytes 0 to 3 · header\nThe letters GGUF")
    assert marked(widget) == "47 47 55 46"


def test_a_part_is_chosen(widget):
    choose(widget, "metadata", "llama.block_count")
    widget.get_by_label("Field").fill("3")
    assert "metadata, llama.block_count\nValue: 1." in summary(widget)
    assert marked(widget) == "01 00 00 00"
    choose(widget, "data", "token_embd.weight")
    assert "Scale of the next 32 numbers, a float16: " in summary(widget)
    widget.get_by_role("button", name="Next").click()
    assert re.search(r"Row 0, column 0: −?\d+ × [\d.e−]+ = ", summary(widget))


def test_the_last_field_of_the_longest_part_is_on_the_page(widget):
    choose(widget, "data", "ffn_up")
    slider = widget.get_by_label("Field")
    slider.fill(slider.get_attribute("max"))
    assert "Row 31, column 31" in summary(widget)
    assert len(marked(widget).split()) == 1
    assert widget.get_by_role("button", name="Next").is_disabled()


def test_the_pointer_shows_a_field_and_a_click_goes_to_another_part(widget):
    cells = widget.locator(".tl-hex [data-place]")
    cells.nth(5).hover()
    assert "Version of the format: 3" in summary(widget)
    cells.nth(30).hover()
    assert "Version of the format: 3" in summary(widget)  # another part is not disturbed
    cells.nth(30).click()
    assert summary(widget).startswith("Bytes 24 to 31 · metadata, general.architecture")
    widget.locator(".tl-strip rect").last.click()
    assert "data, output_norm.weight" in summary(widget)


def test_with_the_keyboard_alone(widget):
    tab(widget, "Part of the file")
    widget.keyboard.press("ArrowDown")
    assert "metadata, general.architecture" in summary(widget)
    tab(widget, "Field")
    widget.keyboard.press("ArrowRight")
    assert "Key: “general.architecture”" in summary(widget)
    tab(widget, "Previous")
    widget.keyboard.press("Enter")
    assert "Key: how long it is, 20 bytes" in summary(widget)


def test_it_is_not_high_and_keeps_its_height(page, tmp_path):
    box = open_in_article(page, tmp_path, WIDGET)
    height = box.bounding_box()["height"]
    for group, name in (("metadata", "tokens"), ("data", "attn_norm"), ("data", "ffn_up")):
        choose(page, group, name)
        assert box.bounding_box()["height"] == height


def test_it_fits_small_screens(widget):
    check_fits(widget, 320, 480, 768, 1280)


def test_it_is_accessible(widget):
    choose(widget, "data", "ffn_up")
    check_accessible(widget)
