"""The long runs of lesson 23: that they go on where they were, and what is stored of them."""

import json

import pytest
import rewards

from transformer_lessons.support.files import read_json, sha256
from transformer_lessons.support.python_code import is_python
from transformer_lessons.weights.shipped import SHIPPED

STORED = read_json(SHIPPED / "rewards.json")
ROWS = STORED["rows"]


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    shipped, folder, made = tmp_path / "shipped", tmp_path / "runs", []
    (shipped / "step-1").mkdir(parents=True)
    (shipped / "step-1" / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(rewards, "SHIPPED", shipped)
    monkeypatch.setattr(rewards, "measure", lambda policy, best: {"policy": policy, "best": best})
    ways = {"first": lambda: (made.append(1) or "one", {"n": 1}), "best of 8": interrupted}
    monkeypatch.setattr(rewards, "WAYS", ways)
    with pytest.raises(KeyboardInterrupt):
        rewards.run(folder)
    assert not (shipped / "rewards.json").exists()
    ways["best of 8"] = lambda: ("two", {})
    rewards.run(folder)
    assert made == [1]
    rows = json.loads((shipped / "rewards.json").read_text())["rows"]
    assert rows["first"].pop("training minutes") >= 0
    assert rows["first"] == {"n": 1, "policy": "one", "best": False}
    assert rows["best of 8"]["best"] is True


def test_the_stored_runs_are_those_of_the_shipped_model():  # SPEC G16
    assert STORED["base"] == sha256(*SHIPPED.glob("step-*/*.safetensors"))
    assert list(ROWS) == list(rewards.WAYS)
    assert sum(row["training minutes"] for row in ROWS.values()) < 30


def test_the_stored_texts_are_as_good_as_the_table_says():  # SPEC G16
    for name, row in ROWS.items():
        share = sum(map(is_python, row["texts"])) / len(row["texts"])
        assert abs(share - row["at 0.8"]["parses"]) < 0.5, name  # eight of hundreds of texts


def test_the_lesson_is_true_of_the_stored_runs():  # SPEC G16
    """The gamed reward, what stopped it, and the collapse."""
    gamed, leash, base = (ROWS[n] for n in ("policy gradient", "with a leash", "base"))
    assert gamed["at 0.8"]["names"] > 0.9 > leash["at 0.8"]["names"] > base["at 0.8"]["names"] + 0.3
    bodies = [text.partition("\n")[2].strip() for text in gamed["texts"]]
    assert bodies.count("return False") == len(bodies) - 1
    assert gamed["ended"].endswith("equal, in the first one 1")
    assert len(gamed["log"]) == 26
    assert gamed["at 0.8"]["uses"] < 0.01 < base["at 0.8"]["uses"] < leash["at 0.8"]["uses"]
    assert gamed["at 0.8"]["distinct"] < 0.1
    assert min(row["at 0.8"]["distinct"] for row in (leash, base)) > 0.8
    assert leash["bits per byte"] < base["bits per byte"] + 0.01
    asked = [ROWS[name]["at 0.8"]["uses"] for name in ("leash, rarer reward", "leash, in steps")]
    assert min(asked) > 2 * base["at 0.8"]["uses"]  # the rewards that ask for it get it
    ruined = ROWS["rate too high"]
    assert ruined["ended"].endswith("equal, in the first one 0")
    assert ruined["at 0.8"]["names"] < 0.05
    assert ruined["bits per byte"] > 2 * base["bits per byte"]
