"""A model that learns in the page: PyTorch's losses, and controls that everyone can use.

# SPEC G13
"""

import json
import re

import pytest
import torch

from transformer_lessons.data.batches import random_windows
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.training.config import train_preset
from transformer_lessons.training.loss import cross_entropy
from transformer_lessons.training.trainer import Trainer
from transformer_lessons.weights.export import export_json

from ..weights.json_model import load_json
from .explorer_page import check_accessible, check_fits, tab, write_page

WIDGET = "train-here"

TRAIN = """([file, batches]) => {
  const T = TransformerLessons;
  const trainer = new T.PageTrainer(new T.TrainableDecoder(T.FLUCTLIGHT, file.weights));
  return batches.map(([inputs, targets]) => trainer.step(inputs, targets));
}"""
NUMERIC = """([file, inputs, targets, is_causal]) => {
  const T = TransformerLessons;
  const model = new T.TrainableDecoder(T.FLUCTLIGHT, file.weights);
  const loss = () => {
    const tape = new T.Tape();
    const { logits } = model.forward(tape, inputs, is_causal);
    const loss = tape.cross_entropy(logits, targets.flat());
    return [tape, loss];
  };
  const [tape, first] = loss();
  tape.backward(first);
  let worst = 0;
  for (const { data, grad } of model.parameters.values()) {
    const exact = grad.slice();
    for (let i = 0; i < data.length; i += 37) {
      const [kept, h] = [data[i], 1e-5];
      data[i] = kept + h;
      const above = loss()[1].data[0];
      data[i] = kept - h;
      const below = loss()[1].data[0];
      data[i] = kept;
      worst = Math.max(worst, Math.abs((above - below) / (2 * h) - exact[i]));
    }
  }
  return worst;
}"""


class ExactPositions(Decoder):
    """A Decoder whose table of RoPE is as exact as the page's: the package makes it in float32."""

    def hidden_states(self, tokens, cache=None, positions=None, mask=None):
        positions = torch.arange(tokens.shape[1], dtype=torch.float64)
        return super().hidden_states(tokens, cache, positions, mask)


def run_in_pytorch(kind, dtype, text: bytes, path):
    """The losses of a run like the page's; its batches; its first weights go to `path`."""
    torch.manual_seed(0)
    model = kind(preset("fluctlight"))
    export_json(model, path)
    windows = random_windows(torch.tensor(list(text * 64)), 16, 16, seed=0)
    config = train_preset("fluctlight")
    batches = [next(windows) for _ in range(config.steps)]
    losses = []
    Trainer(model.to(dtype), config, batches, on_step=lambda s: losses.append(s.loss)).fit()
    return losses, [[inputs.tolist(), targets.tolist()] for inputs, targets in batches]


@pytest.mark.parametrize("text", [b"ab", b"hello "])
def test_the_losses_are_pytorchs(widget, tmp_path, text):
    path = tmp_path / "first.json"
    exact, batches = run_in_pytorch(ExactPositions, torch.float64, text, path)
    found = widget.evaluate(TRAIN, [json.loads(path.read_text()), batches])
    # 400 steps make a difference in the sixteenth digit a hundred million times as large.
    assert found[:20] == pytest.approx(exact[:20], abs=1e-12)
    assert found == pytest.approx(exact, abs=1e-4)
    assert found[-1] < 1 < 5 < found[0]
    # In float32 a run parts from its twin little by little, and with "hello " visibly in the end.
    single, _ = run_in_pytorch(Decoder, torch.float32, text, path)
    assert found[:20] == pytest.approx(single[:20], abs=2e-6)
    if text == b"ab":
        assert found[-1] == pytest.approx(single[-1], abs=1e-3)


@pytest.mark.parametrize("is_causal", [True, False])
def test_its_gradients_are_those_of_finite_differences(widget, tmp_path, random_model, is_causal):
    model = random_model(preset("fluctlight"), seed=1, size=0.5).float()
    export_json(model, tmp_path / "random.json")
    file = json.loads((tmp_path / "random.json").read_text())
    tokens = torch.randint(97, 101, (2, 6), generator=torch.Generator().manual_seed(0)).tolist()
    inputs, targets = [row[:-1] for row in tokens], [row[1:] for row in tokens]
    assert widget.evaluate(NUMERIC, [file, inputs, targets, is_causal]) < 1e-8


def train(page) -> str:
    """Press Train and wait for the end of the run; returns what the model writes."""
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_role("button", name="Train again").wait_for(timeout=120_000)
    return page.locator(".tl-written").inner_text()


def loss(page) -> float:
    return float(page.locator(".tl-state").inner_text().split()[1])


def test_a_pattern_of_the_readers_own_is_learned(own_page, tmp_path):
    page = own_page
    page.goto(write_page(tmp_path, WIDGET))
    before = page.locator(".tl-written").inner_text()
    page.get_by_label("A pattern to learn").fill("hello ")
    assert train(page).count("hello") > 5 > before.count("hello")
    assert loss(page) < 0.2
    assert "400 steps" in page.locator("[aria-live]").inner_text()
    # Looking back: the first step knows nothing, and the writing is noise again.
    page.get_by_label("Look back").fill("1")
    assert loss(page) > 5
    assert page.locator(".tl-written").inner_text().count("hello") < 3
    # What is saved is the model of the step that is shown.
    for step, expected in (("400", True), ("0", False)):
        page.get_by_label("Look back").fill(step)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the weights").click()
        download.value.save_as(tmp_path / "saved.json")
        model = load_json(tmp_path / "saved.json")
        tokens = torch.tensor(list(b"hello hello hell"))
        with torch.no_grad():
            value = cross_entropy(model(tokens[None, :-1]), tokens[None, 1:]).item()
        assert (value < 0.5) == expected


def test_the_mask_hides_the_future(widget):
    def looks_ahead() -> bool:
        shapes = widget.locator(".tl-weight").evaluate_all(
            "ps => ps.map((p) => p.getAttribute('d'))"
        )
        squares = re.findall(r"M(\d+) (\d+)h", " ".join(shapes))
        assert squares
        return any(int(key) > int(query) for key, query in squares)

    widget.get_by_label("Context").select_option("4")
    assert not looks_ahead()
    widget.get_by_label("Hide the future").uncheck()
    assert looks_ahead()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "Type at least one character."),
        ("x" * 65, "65 bytes are too many"),
        ("abcdefghijklmnopq", "17 different bytes are too many"),
    ],
)
def test_a_pattern_that_cannot_be_used(widget, typed, said):
    field = widget.get_by_label("A pattern to learn")
    field.fill(typed)
    assert said in widget.locator(".tl-problem").inner_text()
    assert widget.get_by_role("button", name="Train", exact=True).is_disabled()
    assert field.get_attribute("aria-invalid") == "true"
    field.fill("ok")
    assert widget.locator(".tl-problem").inner_text() == ""
    assert widget.get_by_role("button", name="Train", exact=True).is_enabled()


@pytest.mark.parametrize("typed", ["שלום", "🙂", "a\u200bb", "<b>&", "aaaaaaaaaaaaaaaaaaaaaaaa"])
def test_text_of_every_kind_can_be_learned(widget, typed):
    widget.get_by_label("A pattern to learn").fill(typed)
    for _ in range(3):
        widget.get_by_role("button", name="One step").click()
    assert "after 3 steps" in widget.locator(".tl-state").inner_text()
    assert widget.locator(".tl-written b").count() == 0


def test_a_change_of_a_setting_starts_a_new_run(widget):
    for label, choose in (
        ("Learning rate", lambda field: field.select_option("0.5")),
        ("Context", lambda field: field.select_option("4")),
        ("Seed", lambda field: field.fill("7")),
        ("Hide the future", lambda field: field.uncheck()),
    ):
        widget.get_by_role("button", name="One step").click()
        assert loss(widget) > 0
        choose(widget.get_by_label(label))
        assert widget.locator(".tl-state").inner_text() == "Nothing is learned yet"
    widget.get_by_label("Seed").fill("-1")
    assert "whole number" in widget.locator(".tl-problem").inner_text()
    widget.get_by_role("button", name="Reset").click()
    assert widget.get_by_label("Seed").input_value() == "0"
    assert widget.locator(".tl-problem").inner_text() == ""


def test_pausing_keeps_the_run(widget):
    widget.get_by_role("button", name="Train", exact=True).click()
    widget.wait_for_function(
        "Number(document.querySelector('.tl-state').textContent.split(' ')[3]) > 2"
    )
    widget.get_by_role("button", name="Pause").click()
    before = widget.locator(".tl-state").inner_text()
    widget.get_by_role("button", name="One step").click()
    after = widget.locator(".tl-state").inner_text()
    assert int(after.split()[3]) == int(before.split()[3]) + 1


def test_it_is_used_from_the_keyboard_alone(widget):
    widget.get_by_label("A pattern to learn").focus()
    widget.keyboard.type("c")
    tab(widget, "Train")
    tab(widget, "One step")
    widget.keyboard.press("Enter")
    assert "after 1 step" in widget.locator(".tl-state").inner_text()
    tab(widget, "Reset")
    tab(widget, "Look back")
    widget.keyboard.press("ArrowLeft")
    assert widget.locator(".tl-state").inner_text() == "Nothing is learned yet"
    for name in ("Learning rate", "Context", "Seed", "Hide the future", "Save the weights"):
        tab(widget, name)


def test_it_is_accessible_and_keeps_its_size(widget):
    height = widget.locator(".tl-widget").bounding_box()["height"]
    for _ in range(2):
        widget.get_by_role("button", name="One step").click()
    widget.get_by_label("A pattern to learn").fill("abcdefghijklmnopq")
    assert widget.locator(".tl-widget").bounding_box()["height"] == height <= 700
    widget.get_by_label("A pattern to learn").fill("a b")
    check_accessible(widget, more_than=15)
    check_fits(widget, 320, 390, 1280)
