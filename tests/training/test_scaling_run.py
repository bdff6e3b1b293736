"""The long run of lesson 16: that it goes on where it was, and what is stored of it."""

import json
import math
from types import SimpleNamespace

import pytest
import scaling
from scaling import Run

from transformer_lessons.model.accounting import parameter_counts
from transformer_lessons.support.files import read_json
from transformer_lessons.training.scaling import fit_power_law, size_ladder, training_flops

STORED = read_json(scaling.STORED)
ROWS = STORED["rows"]


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A plan of seven runs that cost nothing; returns the list of those that were made."""
    made = []

    def train_once(config, n_steps, rate, seed):
        made.append((config.d_model, n_steps, seed))
        return 2 + math.log(rate / 0.02) ** 2 + seed  # the best rate is 0.02 for every width

    lesson = SimpleNamespace(train_once=train_once, BATCH=8, CONTEXT=64, corpus=b"abc")
    monkeypatch.setattr(scaling, "task", lambda: lesson)
    monkeypatch.setattr(scaling, "STORED", tmp_path / "stored.json")
    sweep = [Run("sweep", 0, rung, rate) for rung in (0, 2) for rate in (0.5, 2, 4)]
    monkeypatch.setattr(scaling, "SWEEP", sweep)
    monkeypatch.setattr(scaling, "PLAN", [Run("fit", 1e9, 1), Run("seed", 1e9, 1, seed=3)])
    return made


def test_what_is_done_is_not_done_again(quick, tmp_path):
    folder = tmp_path / "runs"
    scaling.main(folder, n_processes=0)
    first = scaling.STORED.read_bytes()
    assert len(quick) == 8
    (folder / f"{scaling.PLAN[1].name}.json").unlink()
    scaling.main(folder, n_processes=0)
    assert quick[8:] == [(12, quick[6][1], 3)]
    old, new = json.loads(first), read_json(scaling.STORED)
    for row in old["rows"] + new["rows"]:
        del row["seconds"]
    assert new == old


def test_an_interrupted_run_leaves_no_row(quick, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    folder, real = tmp_path / "runs", scaling.train
    monkeypatch.setattr(scaling, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scaling.main(folder, n_processes=0)
    assert list(folder.iterdir()) == []
    assert not scaling.STORED.exists()
    monkeypatch.setattr(scaling, "train", real)
    scaling.main(folder, n_processes=0)
    assert len(read_json(scaling.STORED)["rows"]) == 8


def test_the_rate_of_a_run_is_the_best_of_the_sweep(quick, tmp_path):
    """The sweep's losses are a parabola in log rate with its lowest point at 0.02."""
    scaling.main(tmp_path / "runs", n_processes=0)
    stored = read_json(scaling.STORED)
    assert stored["rate_of_width"] == pytest.approx([0.02, 0.0], abs=1e-9)
    [fit] = [row for row in stored["rows"] if row["use"] == "fit"]
    assert fit["rate"] == pytest.approx(0.02)
    assert fit["flops"] == training_flops(size_ladder(2)[-1], fit["tokens"])
    assert fit["flops"] == pytest.approx(1e9, rel=0.02)  # a whole number of steps


def test_the_stored_runs_are_the_plan():  # SPEC G16
    assert len({run.name for run in scaling.SWEEP + scaling.PLAN}) == len(ROWS)
    wanted = [(run.use, run.flops, run.rung, run.seed) for run in scaling.SWEEP + scaling.PLAN]
    assert [(row["use"], row["budget"], row["rung"], row["seed"]) for row in ROWS] == wanted
    for row in ROWS:
        config = size_ladder(row["rung"] + 1)[-1]
        assert row["parameters"] == parameter_counts(config)
        assert row["flops"] == training_flops(config, row["tokens"])
        assert row["budget"] in (0, pytest.approx(row["flops"], rel=0.01))


def test_no_stored_run_saw_a_byte_twice():  # SPEC G16
    assert max(row["tokens"] for row in ROWS) < 30_000_000


def test_the_stored_rates_are_those_of_the_sweep():  # SPEC G16
    best = scaling.best_rates([row for row in ROWS if row["use"] == "sweep"])
    assert STORED["rate_of_width"] == pytest.approx(fit_power_law(list(best), list(best.values())))
    k, p = STORED["rate_of_width"]
    for row in ROWS:
        if row["use"] in ("fit", "seed", "held out"):
            assert row["rate"] == pytest.approx(k * row["width"] ** p)
