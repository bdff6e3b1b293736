"""The model in the page: the same numbers as PyTorch's, and an interface that everyone can use."""

import copy
import json
from pathlib import Path

import pytest
import torch
from publish import export_page_script

from transformer_lessons.analysis.attention_patterns import attention_patterns
from transformer_lessons.config import ModelConfig
from transformer_lessons.generation.generate import generate
from transformer_lessons.generation.sampling import Sampler, temperature_softmax
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.weights.export import export_json

from ..weights.json_model import load_json
from .explorer_page import WIDGETS, check_accessible, check_fits, focused_name, tab, write_page

SHIPPED = WIDGETS / "first_model_weights.js"

RUN = """([file, prompts]) => {
  const model = new TransformerLessons.Decoder(TransformerLessons.read_model(file));
  return prompts.map((tokens) => model.forward(tokens));
}"""

CONFIGS = {
    "fluctlight": preset("fluctlight"),
    "adaptive": ModelConfig(50, 12, d_model=12, n_layers=2, n_heads=3, d_ff=7, adaptive_norm=True),
    "v turned": ModelConfig(31, 9, d_model=8, n_layers=3, n_heads=1, d_ff=5, rope_v_scale=0.5),
    "v all turned": ModelConfig(31, 9, d_model=8, n_layers=1, n_heads=2, d_ff=5, rope_v_scale=1.0),
    "rope base": ModelConfig(256, 40, d_model=16, n_layers=1, n_heads=2, d_ff=20, rope_theta=7.0),
    "wide": ModelConfig(20, 30, d_model=48, n_layers=2, n_heads=4, d_ff=64, adaptive_norm=True),
    "eps": ModelConfig(20, 5, d_model=4, n_layers=1, n_heads=1, d_ff=3, norm_eps=0.1),
    "one of each": ModelConfig(1, 1, d_model=2, n_layers=1, n_heads=1, d_ff=1),
}


def random_float32(random_model, config, seed=0):
    return random_model(config, seed=seed, size=0.4).float()


def exported(model, path) -> dict:
    export_json(model, path)
    return json.loads(path.read_text(encoding="utf-8"))


def write_model(folder: Path, model: Decoder) -> str:
    """A page with the widget and `model` as the shipped one; returns its address."""
    address = write_page(folder, "first-model")
    export_json(model, folder / "model.json")
    export_page_script(folder / "model.json", folder / SHIPPED.name, "first_model")
    return address


@pytest.fixture
def model(random_model):
    """A fluctlight with numbers of every kind, so that no two bytes are equally likely."""
    return random_float32(random_model, preset("fluctlight"), seed=3)


@pytest.fixture
def widget(page, tmp_path, model):
    """The widget in a page opened from a file, running `model`."""
    page.goto(write_model(tmp_path, model))
    return page


@pytest.fixture
def clocked(own_page, tmp_path, model):
    """As `widget`, but time passes only when it is told to."""
    own_page.goto(write_model(tmp_path, model))
    own_page.clock.install()
    return own_page


def candidates(page) -> list[tuple[int, str]]:
    """The table of the likeliest next bytes: (byte, its probability as written)."""
    rows = page.locator(".tl-candidates tbody tr:visible").all()
    values = [row.locator(".tl-value").inner_text() for row in rows]
    return [
        (int(value), row.locator(".tl-probability").inner_text())
        for value, row in zip(values, rows, strict=True)
    ]


def expected_candidates(model, text: bytes, temperature=1.0) -> list[tuple[int, str]]:
    with torch.no_grad():
        logits = model(torch.tensor([list(text[-model.config.context_length :])]))[0, -1]
    top = temperature_softmax(logits.double(), temperature).topk(5)
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [(byte, f"{100 * p:.1f}%" if p >= 0.0005 else "< 0.1%") for byte, p in pairs]


def tiles(page, kind="li") -> list[int]:
    return [int(text) for text in page.locator(f".tl-tiles {kind} .tl-value").all_inner_texts()]


# ---- The numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_attention_are_pytorchs(page, tmp_path, random_model, name):  # SPEC G6
    page.goto(write_model(tmp_path, Decoder(preset("fluctlight"))))
    config = CONFIGS[name]
    for seed in range(4):
        model = random_float32(random_model, config, seed)
        lengths = {1, config.context_length, (config.context_length + 1) // 2}
        prompts = [torch.randint(config.vocab_size, (n,)) for n in sorted(lengths)]
        file = exported(model, tmp_path / "random.json")
        results = page.evaluate(RUN, [file, [prompt.tolist() for prompt in prompts]])
        for prompt, result in zip(prompts, results, strict=True):
            with torch.no_grad():
                logits = model(prompt[None])[0]
            patterns = attention_patterns(model, prompt[None])[:, 0]
            found = torch.tensor(result["logits"], dtype=torch.float64)
            torch.testing.assert_close(found, logits.double(), rtol=1e-5, atol=1e-5)
            attention = torch.tensor(result["attention"], dtype=torch.float64)
            torch.testing.assert_close(attention, patterns.double(), rtol=0, atol=1e-5)
            ones = torch.ones(attention.shape[:-1], dtype=torch.float64)
            torch.testing.assert_close(attention.sum(-1), ones, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_in_float64_the_two_agree_to_the_last_digits(page, tmp_path, random_model, name):
    page.goto(write_model(tmp_path, Decoder(preset("fluctlight"))))
    config = CONFIGS[name]
    model = random_model(config, seed=9, size=0.6).float()
    prompt = torch.randint(config.vocab_size, (config.context_length,))
    [result] = page.evaluate(RUN, [exported(model, tmp_path / "m.json"), [prompt.tolist()]])
    positions = torch.arange(len(prompt), dtype=torch.float64)
    with torch.no_grad():
        logits = model.double()(prompt[None], positions=positions)[0]
    found = torch.tensor(result["logits"], dtype=torch.float64)
    torch.testing.assert_close(found, logits, rtol=1e-11, atol=1e-11)


def test_the_shipped_model_is_pytorchs(page, tmp_path):  # SPEC G6
    name, text = SHIPPED.read_text(encoding="utf-8").rstrip(";\n").split(" = ", 1)
    assert name == 'TransformerLessons.weights["first_model"]'
    (tmp_path / "shipped.json").write_text(text, encoding="utf-8")
    model = load_json(tmp_path / "shipped.json")
    assert model.config == preset("fluctlight")
    exact_model = copy.deepcopy(model).double()
    page.goto(write_model(tmp_path, model))
    prompts = [b"a", b"ab", b"b" * 16, b"abab abab ab", bytes(range(240, 256)), b"\0\xff"]
    results = page.evaluate(RUN, [json.loads(text), [list(prompt) for prompt in prompts]])
    for prompt, result in zip(prompts, results, strict=True):
        tokens = torch.tensor([list(prompt)])
        found = torch.tensor(result["logits"], dtype=torch.float64)
        with torch.no_grad():
            exact, rounded = exact_model(tokens)[0], model(tokens)[0].double()
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-5)
        # Bytes it never saw have logits near 50, where float32 itself is only good to 1e-6 of that.
        torch.testing.assert_close(found, rounded, rtol=1e-6, atol=1e-5)


def test_numbers_of_any_size_arrive_bit_for_bit(page, tmp_path, random_model):
    model = random_float32(random_model, CONFIGS["eps"])
    largest, smallest = torch.finfo(torch.float32).max, 2.0**-149
    with torch.no_grad():
        model.head.bias[:6] = torch.tensor([largest, -largest, smallest, -0.0, 0.1, 1 / 3])
    page.goto(write_model(tmp_path, Decoder(preset("fluctlight"))))
    read = "(file) => TransformerLessons.read_model(file).weights['head.bias']"
    found = page.evaluate(read, exported(model, tmp_path / "model.json"))
    assert [float(x).hex() for x in found] == [x.hex() for x in model.head.bias.tolist()]


@pytest.mark.parametrize("temperature", [0.05, 0.7, 2.0])
def test_softmax_and_sampling(widget, temperature):
    logits = [2.0, -1.0, 0.5, 3.0]
    expected = temperature_softmax(torch.tensor(logits, dtype=torch.float64), temperature)
    softmax = "([logits, t]) => TransformerLessons.softmax(logits, t)"
    found = widget.evaluate(softmax, [logits, temperature])
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected)
    draw = """([logits, t, seed]) => {
      const random = TransformerLessons.random_generator(seed);
      return Array.from({ length: 20000 }, () => TransformerLessons.sample(logits, t, random));
    }"""
    draws = widget.evaluate(draw, [logits, temperature, 5])
    shares = torch.bincount(torch.tensor(draws), minlength=4) / len(draws)
    torch.testing.assert_close(shares.double(), expected, rtol=0, atol=0.015)
    assert widget.evaluate(draw, [logits, temperature, 5]) == draws
    if temperature == 2.0:
        assert widget.evaluate(draw, [logits, temperature, 6]) != draws


def test_softmax_of_huge_scores_is_finite(widget):
    assert widget.evaluate("() => TransformerLessons.softmax([1e4, 1e4], 0.05)") == [0.5, 0.5]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "0 tokens, but this model looks at 1 to 16"),
        ([1] * 17, "17 tokens, but this model looks at 1 to 16"),
        ([256], "token 256 is not in the vocabulary of 256"),
        ([0.5], "token 0.5 is not in the vocabulary of 256"),
    ],
)
def test_bad_tokens_are_refused(widget, model, tmp_path, tokens, message):
    file = exported(model, tmp_path / "again.json")
    run = """([file, tokens]) => {
      const model = new TransformerLessons.Decoder(TransformerLessons.read_model(file));
      try { return model.forward(tokens); } catch (error) { return error.message; }
    }"""
    assert widget.evaluate(run, [file, tokens]) == message


# ---- The interface -------------------------------------------------------------------------------


def test_typing_updates_bytes_table_and_attention(widget, model):
    assert tiles(widget) == list(b"ab")
    assert candidates(widget) == expected_candidates(model, b"ab")
    widget.get_by_label("Text").fill("a é\t")
    assert tiles(widget) == [97, 32, 195, 169, 9]
    assert candidates(widget) == expected_candidates(model, "a é\t".encode())
    patterns = attention_patterns(model, torch.tensor([list("a é\t".encode())]))[:, 0]
    for layer in range(2):
        for head in range(2):
            grid = widget.get_by_role("grid", name=f"Layer {layer + 1}, head {head + 1}")
            headers = grid.locator("thead th").all_inner_texts()
            assert headers == ["a", "␣", "195", "169", "9"]
            assert grid.locator("tbody th").all_inner_texts() == headers
            weight = patterns[layer, head, 3, 1].item()
            label = f"byte 169 (position 4) looks at space (position 2): {weight:.3f}"
            assert grid.get_by_role("gridcell", name=label).count() == 1
            shade = grid.locator("tbody tr").nth(3).locator("td").nth(1).locator("span")
            opacity = float(shade.evaluate("element => getComputedStyle(element).opacity"))
            assert opacity == pytest.approx(weight, abs=1e-5)
            assert grid.locator("td[tabindex]").count() == 15  # none above the diagonal


def test_only_the_last_16_bytes_are_seen(widget, model):
    text = b"abcdefghijklmnopqrstuvwxyz"
    widget.get_by_label("Text").fill(text.decode())
    assert widget.get_by_text("The model sees the last 16 of 26 bytes.").is_visible()
    assert tiles(widget, ".tl-forgotten") == list(b"ghij")
    assert tiles(widget, ".tl-typed") == list(text[-16:])
    assert candidates(widget) == expected_candidates(model, text)


def test_an_empty_text_asks_for_a_byte(widget):
    widget.get_by_label("Text").fill("")
    assert widget.get_by_text("Type at least one byte.").is_visible()
    assert candidates(widget) == []
    assert widget.get_by_role("button", name="Next byte").is_disabled()
    assert not widget.get_by_role("grid").first.is_visible()
    widget.get_by_label("Text").fill("a")
    assert widget.get_by_role("button", name="Next byte").is_enabled()
    assert len(candidates(widget)) == 5


def test_greedy_continuation_is_pythons(widget, model):  # SPEC G6
    for _ in range(30):
        widget.get_by_role("button", name="Most likely byte").click()
    [expected] = generate(model, [list(b"ab")], 30, Sampler(temperature=0))
    assert tiles(widget, ".tl-generated") == expected[-16:]
    shown = bytes(expected).decode(errors="replace").replace("\n", "↵")
    assert widget.locator(".tl-output").text_content() == shown


def test_sampling_can_be_repeated_and_reset_starts_over(widget):
    def twelve_bytes():
        for _ in range(12):
            widget.get_by_role("button", name="Next byte").click()
        return tiles(widget, ".tl-generated")

    first = twelve_bytes()
    widget.get_by_label("Text").fill("other")
    assert tiles(widget, ".tl-generated") == []
    widget.get_by_label("Temperature").fill("2")
    widget.get_by_role("button", name="Reset").click()
    assert widget.get_by_label("Text").input_value() == "ab"
    assert widget.get_by_label("Temperature").input_value() == "1"
    assert (len(first), twelve_bytes()) == (12, first)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2])
def test_temperature_changes_the_table(widget, model, temperature):
    widget.get_by_label("Temperature").fill(str(temperature))
    assert widget.locator(".tl-degrees").inner_text() == f"{temperature:.2f}"
    assert candidates(widget) == expected_candidates(model, b"ab", temperature)


def test_play_goes_on_until_pause(clocked):
    clocked.get_by_role("button", name="Play").click()
    clocked.clock.run_for(2_000)
    clocked.get_by_role("button", name="Pause").click()
    made = tiles(clocked, ".tl-generated")
    assert len(made) == 5
    assert clocked.locator("[aria-live=polite]").inner_text().startswith("Paused. Generated: ")
    clocked.clock.run_for(2_000)
    assert tiles(clocked, ".tl-generated") == made
    clocked.get_by_role("button", name="Play").click()
    clocked.get_by_label("Text").fill("abc")  # typing is a new start
    clocked.clock.run_for(2_000)
    assert tiles(clocked) == list(b"abc")


def test_everything_can_be_done_with_the_keyboard(widget):  # SPEC G11
    tab(widget, "Text")
    widget.keyboard.press("End")
    widget.keyboard.type("c")
    assert tiles(widget) == list(b"abc")
    tab(widget, "Next byte")
    widget.keyboard.press("Enter")
    assert widget.locator("[aria-live=polite]").inner_text().startswith("Generated ")
    tab(widget, "Most likely byte")
    widget.keyboard.press("Space")
    assert len(tiles(widget, ".tl-generated")) == 2
    tab(widget, "Play")
    widget.keyboard.press("Enter")
    assert focused_name(widget) == "Pause"
    widget.keyboard.press("Enter")
    assert focused_name(widget) == "Play"
    tab(widget, "Reset")
    widget.keyboard.press("Enter")
    assert tiles(widget) == list(b"ab")
    tab(widget, "Temperature")
    widget.keyboard.press("ArrowLeft")
    assert widget.locator(".tl-degrees").inner_text() == "0.95"
    tab(widget, "b (position 2) looks at b (position 2): ")
    widget.keyboard.press("ArrowLeft")
    assert focused_name(widget).startswith("b (position 2) looks at a (position 1): ")
    assert widget.locator(".tl-head .tl-note").first.inner_text() == focused_name(widget)
    widget.keyboard.press("ArrowUp")
    widget.keyboard.press("ArrowRight")  # the square above the diagonal can't be reached
    assert focused_name(widget).startswith("a (position 1) looks at a (position 1): 1.000")
    widget.keyboard.press("ArrowDown")
    widget.keyboard.press("End")
    assert focused_name(widget).startswith("b (position 2) looks at b (position 2): ")
    for _ in range(3):
        tab(widget, "b (position 2) looks at b (position 2): ")
    tab(widget, "Load your own model")
    tab(widget, "Return to the shipped model")
    widget.keyboard.press("Enter")
    assert widget.get_by_text("The shipped model is in use").is_visible()


def test_arrow_keys_in_a_grid_do_not_turn_the_page(widget):
    # The theme listens on the document: left and right lead to the neighbouring lessons.
    widget.evaluate("""() => {
      document.reached = [];
      document.addEventListener("keydown", (event) => document.reached.push(event.key));
    }""")
    widget.get_by_role("grid").first.locator("td[tabindex='0']").focus()
    for key in ("ArrowLeft", "ArrowRight", "Tab"):
        widget.keyboard.press(key)
    assert widget.evaluate("document.reached") == ["Tab"]


def test_a_grid_keeps_the_focus_while_it_grows(clocked):
    clocked.get_by_role("button", name="Play").click()
    clocked.get_by_role("grid").first.locator("td[tabindex='0']").focus()
    clocked.keyboard.press("ArrowLeft")
    clocked.clock.run_for(1_000)
    label = clocked.evaluate("() => document.activeElement.getAttribute('aria-label')")
    assert label.startswith("b (position 2) looks at a (position 1)")
    assert clocked.locator(".tl-head .tl-note").first.inner_text() == label


# ---- The reader's own model ----------------------------------------------------------------------


def test_the_readers_model_runs_and_the_shipped_one_comes_back(
    widget, tmp_path, random_model, model
):
    config = ModelConfig(256, 20, d_model=6, n_layers=3, n_heads=1, d_ff=5, rope_v_scale=0.5)
    own = random_float32(random_model, config)
    export_json(own, tmp_path / "mine.json")
    widget.get_by_label("Load your own model").set_input_files(tmp_path / "mine.json")
    loaded = "mine.json is loaded: 4,129 parameters · 3 layers · 1 head each · sees 20 bytes."
    widget.get_by_text(loaded).wait_for()
    assert sum(p.numel() for p in own.parameters()) == 4_129
    assert widget.get_by_role("grid").count() == 3
    assert candidates(widget) == expected_candidates(own, b"ab")
    widget.get_by_role("button", name="Return to the shipped model").click()
    assert widget.get_by_role("grid").count() == 4
    assert candidates(widget) == expected_candidates(model, b"ab")


def test_a_long_context_shows_the_attention_of_the_last_16(widget, tmp_path, random_model):
    config = ModelConfig(256, 20, d_model=6, n_layers=1, n_heads=1, d_ff=5)
    own = random_float32(random_model, config)
    export_json(own, tmp_path / "mine.json")
    widget.get_by_label("Load your own model").set_input_files(tmp_path / "mine.json")
    widget.get_by_text("mine.json is loaded").wait_for()
    text = "abcdefghijklmnopqrs"
    widget.get_by_label("Text").fill(text)
    weight = attention_patterns(own, torch.tensor([list(text.encode())]))[0, 0, 0, -1, 3].item()
    label = f"s (position 19) looks at d (position 4): {weight:.3f}"
    assert widget.get_by_role("gridcell", name=label).count() == 1
    assert widget.locator("tbody tr", has=widget.locator("td[tabindex]")).count() == 16


BAD_FILES = [
    (lambda file: "{", "it is not JSON"),
    (lambda file: "null", "it is not a model that export_json has written"),
    (lambda file: {**file, "format": "other/1"}, "it is not a model that export_json has written"),
    (lambda file: {**file, "config": None}, "it has no config"),
    (lambda file: {**file, "weights": []}, "it has no weights"),
    (lambda file: config_with(file, n_head=1), "its config has an unknown key 'n_head'"),
    (lambda file: config_with(file, n_kv_heads=1), "config.n_kv_heads = 1 is more than this page"),
    (lambda file: config_with(file, norm="rms"), 'config.norm = "rms" is more than this page can'),
    (lambda file: config_with(file, d_ff=0), "config.d_ff = 0 is not possible"),
    (lambda file: config_with(file, rope_v_scale="1"), "config.rope_v_scale = 1 is not possible"),
    (lambda file: config_with(file, n_heads=3), "can't be cut into 3 heads of even width"),
    (lambda file: config_with(file, n_layers=10**9), "config.n_layers = 1000000000, but it has"),
    (lambda file: config_with(file, n_layers=1), "tensor 'blocks.1.attention_norm.weight' is not"),
    (
        lambda file: config_with(file, n_layers=3),
        "tensor 'blocks.2.attention_norm.weight' is missing",
    ),
    (lambda file: bias_with(file, shape=[255]), "tensor 'head.bias' is (255), not (256)"),
    (lambda file: bias_with(file, data=[0] * 9), "tensor 'head.bias' has 9 numbers, not 256"),
    (lambda file: bias_with(file, data=None), "tensor 'head.bias' has no shape and data"),
    (lambda file: bias_with(file, data=[1e39] * 256), "tensor 'head.bias', data[0] is not a"),
    (lambda file: bias_with(file, data=["1"] * 256), "tensor 'head.bias', data[0] is not a number"),
]


def config_with(file, **changes):
    return {**file, "config": {**file["config"], **changes}}


def bias_with(file, **changes):
    bias = {**file["weights"]["head.bias"], **changes}
    return {**file, "weights": {**file["weights"], "head.bias": bias}}


@pytest.mark.parametrize(("change", "message"), BAD_FILES)
def test_a_bad_file_is_explained_and_changes_nothing(widget, tmp_path, model, change, message):
    changed = change(exported(model, tmp_path / "good.json"))
    text = changed if isinstance(changed, str) else json.dumps(changed)
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    before = candidates(widget)
    widget.get_by_label("Load your own model").set_input_files(tmp_path / "bad.json")
    widget.get_by_text("bad.json was not loaded: ").wait_for()
    shown = widget.get_by_role("status").inner_text()
    assert message in shown
    assert shown.endswith("The model on the page is the same as before.")
    widget.get_by_role("button", name="Most likely byte").click()
    assert tiles(widget, ".tl-generated") == [before[0][0]]


def test_a_vocabulary_of_other_tokens_is_refused(widget, tmp_path, random_model):
    export_json(random_float32(random_model, CONFIGS["eps"]), tmp_path / "small.json")
    widget.get_by_label("Load your own model").set_input_files(tmp_path / "small.json")
    widget.get_by_text("its vocabulary is 20, not the 256 bytes").wait_for()
    assert widget.get_by_role("grid").count() == 4


# ---- For everyone --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["ab", "an é and more than sixteen bytes"])
def test_accessible_in_light_and_dark(widget, text):  # SPEC G11
    widget.get_by_label("Text").fill(text)
    widget.get_by_role("button", name="Next byte").click()
    widget.get_by_role("grid").first.locator("td[tabindex='0']").focus()
    check_accessible(widget, judged="button-name")


def test_no_page_is_wider_than_its_screen(page, tmp_path, random_model):  # SPEC G11
    page.set_viewport_size({"width": 320, "height": 800})
    page.goto(write_model(tmp_path, random_float32(random_model, preset("fluctlight"))))
    page.get_by_label("Text").fill("üöä and a long text without an end, " * 8)
    press_often = "(button) => { for (let i = 0; i < 70; i += 1) button.click(); }"
    page.get_by_role("button", name="Next byte").evaluate(press_often)
    bad = tmp_path / f"{'long' * 50}.json"
    bad.write_text("{", encoding="utf-8")
    page.get_by_label("Load your own model").set_input_files(bad)
    page.get_by_text("was not loaded").wait_for()
    check_fits(page, 320, 390, 768)


def test_reduced_motion_is_respected(widget):  # SPEC G11
    moving = "() => getComputedStyle(document.querySelector('.tl-bar')).transitionDuration"
    assert widget.evaluate(moving) == "0.15s"
    widget.emulate_media(reduced_motion="reduce")
    assert widget.evaluate(moving) == "0s"
