"""The benchmark of SmolLM2: the same work for all, and rows by hand."""

from functools import cache
from pathlib import Path

import pytest

from benchmarks import page, smollm, smollm_run
from benchmarks.contest import Results
from benchmarks.decoding import same_texts
from benchmarks.worker import Run, measure
from transformer_lessons.model.accounting import parameter_counts
from transformer_lessons.presets import preset
from transformer_lessons.support.gguf_file import read_gguf
from transformer_lessons.weights.pretrained import gguf_tokenizer

PAGE = Path(__file__).resolve().parents[2] / "book" / "benchmarks.md"


@pytest.fixture(autouse=True)
def read_once(monkeypatch):
    """transformers needs five seconds for the file; no test changes what it read."""
    monkeypatch.setattr(smollm, "their_model", their_model)


their_model = cache(smollm.their_model)


def test_all_make_the_same_tokens_and_scores(smollm2):  # SPEC G5
    assert len(gguf_tokenizer(read_gguf(smollm2)).encode(smollm.PROMPT)) == 17  # as the page says
    expected = measure(smollm.ours(n_new=6)).result
    assert len(expected[0][0]) == 6
    assert same_texts(expected, measure(smollm.huggingface(n_new=6)).result)
    rounded = measure(smollm.ours(n_new=6, int8=True)).result
    assert smollm_run.roughly_same(expected, rounded)
    assert not same_texts(expected, rounded)
    others = (expected[0], [score + 3 for score in expected[1][:16]] + expected[1][16:])
    assert not smollm_run.roughly_same(expected, others)


def test_the_bound_reads_all_weights_for_each_token():  # SPEC F6
    work = smollm.reading(n_parameters=1000, n_times=3)
    assert [float(one) for one in work.run()] == [1000] * 3
    assert smollm_run.roughly_same(([[1]], [1.0]), measure(work).result)


def test_loading_gives_the_whole_model_in_both_programs(smollm2):  # SPEC G5
    found = [measure(load()).result for load in (smollm.load_ours, smollm.load_huggingface)]
    assert found == [134_515_008] * 2


def test_rows_by_hand():  # SPEC F6
    results = {
        "transformers, float32": Results([Run(5, 5)]),
        "transformers, float32, compiled": Results([Run(4, 4)]),
        "ours, float32": Results([Run(2, 2)]),
        "ours, int8": Results([Run(0.5, 0.5)]),
        smollm_run.BOUND: Results([Run(1, 1)]),
    }
    once = "{0:.2f} ({0:.2f}–{0:.2f})".format
    rows = smollm_run.rows_of(results, n_new=10)
    assert [row[0] for row in rows] == [*list(results)[:3], smollm_run.BOUND, "ours, int8"]
    assert [row[1:3] for row in rows[2:]] == [["200.0", "5.0"], ["100.0", "10.0"], ["50.0", "20.0"]]
    assert [row[3] for row in rows[2:]] == ["2.7", "5.4", "2.7"]  # 10 tokens of 0.538 GB
    assert [row[4] for row in rows[2:]] == [once(0.5), once(1), once(0.5)]
    assert [row[5] for row in rows] == [once(0.8), once(1), once(2), "–", once(8)]


def test_bytes_of_the_weights():  # SPEC G10
    """Rounded: a byte for each weight of a linear layer, the head too, and a scale for each row."""
    config = preset("smollm2-135m")
    assert smollm_run.BYTES["float32"] == 4 * sum(parameter_counts(config).values())
    shapes = [(960, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536)] * config.n_layers
    shapes.append((config.vocab_size, config.d_model))
    assert smollm_run.BYTES["int8"] == sum(v * d + 4 * v for v, d in shapes)


def test_who_is_measured():  # SPEC F6
    found = smollm_run.contestants(64, (False, True))
    assert {one.threads for one in found} == {1}
    names = [one.name for one in found]
    assert names[:5] == [
        "transformers, float32",
        "ours, float32",
        "transformers, bfloat16",
        "ours, bfloat16",
        "ours, int8",
    ]
    assert names[5:] == [f"{name}, compiled" for name in names[:5]]


def test_float32_must_agree_exactly(monkeypatch):  # SPEC F6
    """What passes for nearly the same in few bits does not pass in float32."""
    made = {
        name: ([[1]], [0.5]) for name in ("transformers, float32", "ours, float32", "ours, int8")
    }
    made["ours, int8"] = ([[2]], [1.5])  # as far apart as few bits may be

    def contest(contestants, n_rounds, same):
        results = {name: Results([Run(1, 1, one)]) for name, one in made.items()}
        return results | {smollm_run.BOUND: Results([Run(1, 1)])}

    monkeypatch.setattr(smollm_run, "run_contest", contest)
    assert smollm_run.speed_table(1, (False,), 1).count("\n") == 5
    made["ours, float32"] = ([[1]], [0.6])
    with pytest.raises(ValueError, match="not the same work"):
        smollm_run.speed_table(1, (False,), 1)


def test_the_page_has_a_place_for_each_section():  # SPEC F6
    text = PAGE.read_text(encoding="utf-8")
    for name in smollm_run.sections(tiny=True):
        assert page.replace_between(text, name, "new").count("new\n\n<!-- end") == 1
