"""The benchmark of continuing texts, on a very small model: the same work for all, rows by hand."""

import doctest
from pathlib import Path

import pytest
import torch

from benchmarks import decoding, decoding_run, models, page
from benchmarks.contest import Results
from benchmarks.training_model import WORDS, in_words_of, shape_of, starting_weights
from benchmarks.worker import Run, measure

PAGE = Path(__file__).resolve().parents[2] / "book" / "benchmarks.md"
WORK = {"size": "tiny", "context_length": 32, "n_prompt": 5, "n_new": 9}


@pytest.mark.parametrize("module", [decoding, decoding_run])
def test_examples_in_the_docstrings(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("n_texts", [1, 3])
def test_all_make_the_same_tokens_and_scores(n_texts):  # SPEC F6
    work = WORK | {"n_texts": n_texts}
    tokens, scores = expected = measure(decoding.ours(**work)).result
    assert [len(text) for text in tokens] == [9] * n_texts
    assert len(scores) == 2 * n_texts * decoding.N_SCORES
    assert len({token for text in tokens for token in text}) > 3  # not one and the same
    others = [
        decoding.ours(**work, cached=False),
        decoding.ours(**work, attention="fused_attend"),
        decoding.huggingface(**work),
        decoding.huggingface(**work, cache="static"),
    ]
    for other in others:
        assert decoding.same_texts(expected, measure(other).result)
    tokens, (first, *rest) = expected
    assert not decoding.same_texts(expected, (tokens, [first + 1e-3, *rest]))
    work["n_prompt"] = 4
    assert not decoding.same_texts(expected, measure(decoding.ours(**work)).result)


def test_scores_are_those_of_the_first_and_the_last_token():  # SPEC F6
    work = WORK | {"n_texts": 2}
    tokens, scores = measure(decoding.ours(**work)).result
    shape = decoding.decoding_shape("tiny", 32)
    model = models.our_model(shape, decoding.decoding_weights(shape))
    prompts = decoding.prompts_of(shape, 2, 5)
    whole = torch.cat([prompts, torch.tensor(tokens)[:, :-1]], dim=1)
    with torch.inference_mode():
        logits = model(whole)
    expected = torch.stack([logits[:, 4], logits[:, -1]])[..., : decoding.N_SCORES]
    torch.testing.assert_close(torch.tensor(scores), expected.flatten(), rtol=0, atol=1e-5)


def test_a_cache_with_wrong_positions_is_noticed(monkeypatch):  # SPEC A8
    from transformer_lessons.model.cache import KVCache

    expected = measure(decoding.huggingface(**WORK, n_texts=1)).result
    monkeypatch.setattr(KVCache, "positions", lambda self, n_tokens: torch.arange(n_tokens))
    wrong = measure(decoding.ours(**WORK, n_texts=1)).result
    assert not decoding.same_texts(expected, wrong)


@pytest.mark.parametrize("kind", ["gpt", "llama"])
def test_a_model_is_the_same_in_both_programs(kind):  # SPEC F6
    shape = shape_of("tiny", kind)
    weights = starting_weights(shape)
    tokens = decoding.prompts_of(shape, 2, 8)
    with torch.inference_mode():
        ours = models.our_model(shape, weights)(tokens)
        theirs = models.huggingface_model(shape, weights).eval()(tokens).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_weights_of_the_blocks_are_larger():  # SPEC F6
    shape = decoding.decoding_shape("tiny", 32)
    plain, larger = starting_weights(shape), decoding.decoding_weights(shape)
    name = "blocks.1.attention.qkv.weight"
    assert larger[name].equal(12.5 * plain[name])
    for name in ("embedding.weight", "blocks.0.attention_norm.weight", "final_norm.weight"):
        assert larger[name].equal(plain[name])
    assert set(in_words_of("litgpt", larger)).isdisjoint(larger)
    assert WORDS["litgpt"]["embedding"] == "transformer.wte"


def test_seconds_by_length_are_medians_of_groups(monkeypatch):  # SPEC F6
    clock = iter([0, 1, 3, 6, 7, 17, 27, 27.5] * 2)
    monkeypatch.setattr(decoding.time, "perf_counter", lambda: next(clock))
    work = decoding.ours_by_length("tiny", n_new=8, n_apart=3)
    assert work.run() == [2, 10, 0.5]  # of 1, 2, 3 | 1, 10, 10 | 0.5


@pytest.mark.parametrize("cached", [True, False])
def test_seconds_by_length_of_a_real_run(cached):  # SPEC F6
    seconds = decoding.ours_by_length("tiny", n_new=9, n_apart=4, cached=cached).run()
    assert len(seconds) == 2
    assert min(seconds) > 0


def test_a_row_by_hand():  # SPEC F6
    results = {
        "a peer": Results([Run(4, 4)]),
        "the best peer": Results([Run(2, 4)]),
        "ours": Results([Run(1, 1)]),
    }
    once = "{0:.2f} ({0:.2f}–{0:.2f})".format
    assert decoding_run.rows_of(results, n_texts=3, n_new=10) == [
        ["a peer", "400.00", "8", "400.00", once(2), "1.00"],
        ["the best peer", "200.00", "15", "400.00", once(1), "1.00"],
        ["ours", "100.00", "30", "100.00", once(0.5), "0.25"],
    ]


def test_who_is_measured(monkeypatch, tmp_path):  # SPEC F6
    python = tmp_path / "python"
    python.touch()
    monkeypatch.setattr(decoding_run, "LITGPT", python)
    eager = decoding_run.rivals({"size": "tiny"}, compiled=False)
    assert [one.function for one in eager] == ["huggingface", "huggingface", "litgpt", "ours"]
    assert [one.arguments.get("cache") for one in eager] == ["dynamic", "static", None, None]
    assert [one.python == str(python) for one in eager] == [False, False, True, False]
    compiled = decoding_run.rivals({"size": "tiny"}, compiled=True)
    assert [one.arguments["compiled"] for one in compiled] == [True] * 3
    assert {one.threads for one in eager + compiled} == {1}


def test_the_page_has_a_place_for_each_section():  # SPEC F6
    text = PAGE.read_text(encoding="utf-8")
    for name in decoding_run.sections(tiny=True):
        assert page.replace_between(text, name, "new").count("new\n\n<!-- end") == 1


def test_curves_are_drawn(tmp_path):  # SPEC F6
    figure = tmp_path / "decoding.png"
    curves = {name: [1.0, 2.0] for name in decoding_run.WAYS}
    decoding_run.draw_curves([64, 128], curves, figure)
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("in_this_process")
def test_sections_in_their_tiny_form(capsys, monkeypatch, tmp_path):  # SPEC F6
    monkeypatch.chdir(PAGE.parents[1])
    monkeypatch.setattr(decoding_run, "LITGPT", tmp_path)
    monkeypatch.setattr(decoding_run, "WAYS", {"without a cache": {"cached": False}, "with": {}})
    before = PAGE.read_bytes()
    decoding_run.main(["--tiny", "decoding-S-prefill", "decoding-cache", "decoding-length"])
    assert PAGE.read_bytes() == before
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")] == [
        "| program",
        "| transformers, dynamic, eager",
        "| transformers, static, eager",
        "| ours, eager",
        "| ours",
        "| without a cache",
        "| with",
        "| up to this many tokens",
        "| 8",
        "| 16",
        "| 24",
    ]
    assert decoding_run.WITHOUT_LITGPT in lines


def test_the_cache_is_worth_the_time_without_it_over_that_with_it(monkeypatch):  # SPEC F6
    seconds = {"without a cache": 4.8, "with a cache": 1.2, "with a cache, compiled": 0.6}
    results = {name: Results([Run(wall, wall)]) for name, wall in seconds.items()}
    monkeypatch.setattr(decoding_run, "run_contest", lambda *arguments: results)
    rows = [line.split(" | ")[1:] for line in decoding_run.cache_table("tiny", 1).splitlines()[2:]]
    assert rows == [
        ["200.00", "1.00 (1.00–1.00) |"],
        ["50.00", "4.00 (4.00–4.00) |"],
        ["25.00", "8.00 (8.00–8.00) |"],
    ]
