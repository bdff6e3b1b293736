"""The arithmetic of the benchmarks, with clocks that are not real; and that each of them runs."""

import doctest
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from benchmarks import (
    bpe,
    bpe_run,
    bpe_ties,
    contest,
    growth_run,
    machine,
    memory,
    page,
    results,
    summary,
    training,
    training_model,
    training_plot,
    training_profile,
    training_run,
    worker,
)
from benchmarks.contest import Contestant, Process, Results, check_same, run_contest, take_turns
from benchmarks.corpus import hostile_text, python_text
from benchmarks.worker import Run, Work, measure
from transformer_lessons.tokenizers.bpe_training import learn_merges

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "book" / "benchmarks.md"
needs_rustbpe = pytest.mark.skipif(
    importlib.util.find_spec("rustbpe") is None, reason="rustbpe comes with `make bench`"
)


@pytest.mark.parametrize(
    "module",
    [bpe_ties, page, results, summary, training, training_model, training_plot, training_profile],
)
def test_examples_in_the_docstrings(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_one_run_is_timed_from_clock_to_clock():  # SPEC F6
    done = []
    work = Work(
        lambda: done.append("run") or 21,
        lambda result: done.append("describe") or 2 * result,
        lambda: done.append("before"),
    )
    clocks = {"wall_clock": iter([10.0, 12.5]).__next__, "cpu_clock": iter([1.0, 4.0]).__next__}
    assert measure(work, **clocks) == Run(wall=2.5, cpu=3.0, result=42)
    assert done == ["before", "run", "describe"]


class Scripted:
    """A contestant whose runs take the times it is given; `order` says who ran when."""

    def __init__(self, name, seconds, order):
        self.name, self.seconds, self.order = name, iter(seconds), order

    def run(self):
        self.order.append(self.name)
        return Run(next(self.seconds), 1.0, "same")


def test_contestants_take_turns_and_each_is_first_once():  # SPEC F6
    order = []
    players = [
        Scripted(name, [place, place + 10, place + 20], order) for place, name in enumerate("abc")
    ]
    runs = take_turns(players, 3)
    assert order == list("abc" + "bca" + "cab")
    assert [[run.wall for run in some] for some in runs] == [[0, 10, 20], [1, 11, 21], [2, 12, 22]]


def test_ratios_are_taken_within_a_round():  # SPEC F6
    # The second round was ten times slower for both: medians of each alone would be 1 and 4.
    ours, theirs = [Run(1, 3), Run(20, 1), Run(1, 1)], [Run(4, 2), Run(10, 2), Run(4, 2)]
    assert summary.ratios("wall", ours, theirs) == [0.25, 2.0, 0.25]
    assert summary.ratios("cpu", ours, theirs) == [1.5, 0.5, 0.5]
    assert summary.middle_and_range([5, 1, 2]) == "2.00 (1.00–5.00)"
    with pytest.raises(ValueError, match="shorter"):
        summary.ratios("wall", ours, theirs[:2])


def test_a_row_by_hand():  # SPEC F6
    results = {
        "base": Results([Run(2, 4), Run(4, 4), Run(2, 4)], peak=12.4),
        "ours": Results([Run(1, 2), Run(1, 2), Run(3, 8)], peak=3.6),
    }
    assert bpe_run.rows_of(results, "base", n_bytes=5_000_000) == [
        ["base", "2.00 (2.00–4.00)", "2.5", "4.00", "1.00 (1.00–1.00)", "1.00", "12"],
        ["ours", "1.00 (1.00–3.00)", "5.0", "2.00", "0.50 (0.25–1.50)", "0.50", "4"],
    ]
    assert [row[2] for row in bpe_run.rows_of(results, "base", n_bytes=50_000)] == [
        "0.025",
        "0.050",
    ]


@pytest.mark.parametrize("power", [1, 1.5, 2])
def test_the_exponent_of_growth_is_the_slope(power):  # SPEC F6
    sizes = [10, 40, 160]
    exponent = summary.growth_exponent(sizes, [3 * size**power for size in sizes])
    assert exponent == pytest.approx(power)


def test_other_work_is_refused():  # SPEC A10
    same, other = [Run(1, 1, "x"), Run(2, 1, "x")], [Run(1, 1, "x"), Run(1, 1, "y")]
    check_same(["a", "b"], [same, same])
    with pytest.raises(ValueError, match="b came to y, a to x"):
        check_same(["a", "b"], [same, other])
    check_same(["a", "b"], [same, other], same=lambda *both: {*both} <= {"x", "y"})
    with pytest.raises(ValueError, match="a came to x, a to x"):
        check_same(["a", "b"], [same, same], same=lambda expected, found: expected != found)


TWO_SECTIONS = "one\n<!-- begin a -->old\n<!-- end a -->\ntwo <!-- begin b --><!-- end b -->"


def test_a_section_is_replaced_and_the_rest_is_left(tmp_path):  # SPEC F6
    path = tmp_path / "page.md"
    path.write_text(TWO_SECTIONS, encoding="utf-8")
    page.write_section("a", r"new \1 – text", path)
    once = path.read_text(encoding="utf-8")
    assert once == TWO_SECTIONS.replace("old\n", "\n\nnew \\1 – text\n\n")
    page.write_section("a", r"new \1 – text", path)
    assert path.read_text(encoding="utf-8") == once


@pytest.mark.parametrize("text", ["", "<!-- begin a -->", TWO_SECTIONS * 2])
def test_a_section_must_be_there_once(text):
    with pytest.raises(ValueError, match="there must be one"):
        page.replace_between(text, "a", "new")


def test_the_page_has_a_place_for_each_section():  # SPEC F6
    text = PAGE.read_text(encoding="utf-8")
    runs = (bpe_run, training_run, growth_run)
    for name in [name for run in runs for name in run.sections(tiny=True)]:
        assert page.replace_between(text, name, "new").count("new\n\n<!-- end") == 1


def test_a_contestant_in_a_process_of_its_own(tmp_path, monkeypatch):  # SPEC F6
    (tmp_path / "sleepers.py").write_text(
        "import os\n"
        "from benchmarks.worker import Work\n"
        "def hold(n_megabytes):\n"
        "    print('this is no answer')\n"
        "    names = ('OMP_NUM_THREADS', 'RAYON_NUM_THREADS')\n"
        "    describe = lambda held: [len(held), *map(os.environ.get, names)]\n"
        "    return Work(lambda: b'x' * (n_megabytes * 1_000_000), describe)\n"
        "def fail():\n"
        "    return Work(lambda: 1 / 0, str)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    large = Contestant("large", "sleepers", "hold", {"n_megabytes": 3}, threads=2)
    results = run_contest([large], n_rounds=2)
    assert [run.result for run in results["large"].runs] == [[3_000_000, "2", "2"]] * 2
    assert all(run.wall > 0 for run in results["large"].runs)
    process = Process(Contestant("wrong", "sleepers", "fail"))
    with pytest.raises(RuntimeError, match="wrong ended with code 1"):
        process.run()
    process.close()


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux only")
def test_memory_of_a_process_and_its_child():  # SPEC F6
    child = "import sys; held = bytearray(60_000_000); print(1, flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    assert 60 < memory.megabytes(process.pid) < 120
    done = Event()
    done.set()
    assert memory.watch_peak(process.pid, done) == 0
    process.communicate()
    assert memory.megabytes(process.pid) == 0


def test_the_text_is_as_long_as_asked_for_and_always_the_same():
    text = python_text(5_000)
    assert len(text.encode()) == 5_000
    assert text == python_text(9_000)[:5_000]
    accented = python_text(5_000, accented=True)
    assert "e" not in accented
    assert 4_999 <= len(accented.encode()) <= 5_000
    assert text.startswith(accented[:500].replace("é", "e"))
    for kind in bpe_run.HOSTILE:
        assert len(hostile_text(kind, 300)) == 300


def test_merges_may_part_only_at_a_tie():  # SPEC A10
    chunks = {b"ab": 2, b"cd": 2, b"ef": 1}
    ours, other = learn_merges(chunks, 3), [(b"a", b"b"), (b"c", b"d"), (b"e", b"f")]
    assert bpe_ties.agree_until_a_tie(chunks, ours, ours) == 3
    assert bpe_ties.agree_until_a_tie(chunks, ours, other) == 0
    with pytest.raises(ValueError, match="merge 0"):
        bpe_ties.agree_until_a_tie(chunks, ours, [(b"e", b"f"), *ours[:2]])


def test_hostile_text_is_timed_or_the_error_is_noted(monkeypatch):
    for program in ("ours, training", "tiktoken"):
        work = bpe.hostile(program, "one emoji", [5, 50])
        assert len(work.run()) == 2
        assert all(seconds > 0 for seconds in work.run())
    monkeypatch.setattr(bpe, "hostile_text", lambda kind, n: "x" if n == 1 else None)
    seconds = work.run()
    assert seconds == [None, None]


SMALL = {"n_bytes": 20_000, "vocab": "cl100k_base"}
TEXT = python_text(20_000)


@pytest.fixture(scope="module")
def cl100k():
    return bpe.load("cl100k_base")


def test_encoders_come_to_the_same_ids(cl100k, monkeypatch):  # SPEC A10
    monkeypatch.setattr(bpe, "load", lambda vocab: cl100k)
    works = [
        bpe.encode_tiktoken(**SMALL),
        bpe.encode_ours(**SMALL),
        bpe.encode_to_tiktoken(**SMALL),
        bpe.encode_huggingface(**SMALL, in_pieces=True),
    ]
    assert {measure(work).result for work in works} == {bpe.digest(cl100k.encode(TEXT))}
    accented = bpe.encode_ours(**SMALL, accented=True)
    assert measure(accented).result == bpe.digest(cl100k.encode(python_text(20_000, True)))


@pytest.mark.parametrize("remember", [True, False])
def test_what_is_remembered_is_forgotten_if_that_is_asked_for(cl100k, monkeypatch, remember):
    monkeypatch.setattr(bpe, "load", lambda vocab: cl100k)
    work = bpe.encode_ours(**SMALL, remember=remember)
    first, second = measure(work), measure(work)
    assert first.result == second.result == bpe.digest(cl100k.encode(TEXT))
    work.before()
    assert (cl100k.encode_cached.cache_info().currsize > 0) == remember


@needs_rustbpe
def test_trainers_come_to_as_many_merges_and_part_at_ties():  # SPEC A10
    size = {"n_bytes": 20_000, "vocab_size": 300}
    trainers = [bpe.train_ours, bpe.train_rustbpe, bpe.train_huggingface]
    assert {measure(train(**size)).result for train in trainers} == {44}
    said = bpe_run.ties_text(**size)
    assert said.count("of the 44 tokens learned") == 2
    vocab = (20_000, 300)
    encoders = [bpe.encode_rustbpe(20_000, vocab), bpe.encode_ours(20_000, vocab)]
    encoders.append(bpe.encode_tiktoken(20_000, vocab))
    assert len({measure(work).result for work in encoders}) == 1


@pytest.mark.usefixtures("in_this_process")
def test_a_section_in_its_tiny_form(capsys, monkeypatch):  # SPEC F6
    monkeypatch.chdir(ROOT)
    before = PAGE.read_bytes()
    bpe_run.main(["--tiny", "bpe-training-naive"])
    assert PAGE.read_bytes() == before
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0] == "bpe-training-naive"
    assert [line.split(" | ")[0] for line in lines[4:]] == [
        "| ours, naive: all pairs counted for each merge",
        "| ours, heap",
    ]
    with pytest.raises(SystemExit):
        bpe_run.main(["--tiny", "bpe-trainign"])


def test_the_machine_is_described(monkeypatch):  # SPEC F6
    monkeypatch.setattr(
        machine, "matmul_limit", lambda dtype: {"float32": 9, "bfloat16": 99}[dtype]
    )
    monkeypatch.setattr(machine, "bandwidth", lambda: 7.0)
    said = machine.describe_machine(["tiktoken"], n_threads=1)
    assert "| matrix products, bfloat16, 1 threads | 99 GFLOP/s |" in said
    assert "tiktoken 0." in said


def test_the_limits_are_work_by_time(monkeypatch):  # SPEC F6
    times = iter([0.0, 2.0, 5.0, 5.5, 7.0, 8.0])
    monkeypatch.setattr(machine.time, "perf_counter", times.__next__)
    runs = []
    assert machine.best_seconds(lambda: runs.append(1), n_tries=3) == 0.5
    assert len(runs) == 4
    monkeypatch.setattr(machine, "best_seconds", lambda work: 0.5)
    assert machine.matmul_limit("float32", size=10) == 2 * 1000 / 0.5 / 1e9
    assert machine.bandwidth(4_000) == 4_000 / 0.5 / 1e9


def test_the_answers_of_a_worker_are_json():
    command = [sys.executable, "-m", "benchmarks.worker", "benchmarks.bpe", "train_ours"]
    size = json.dumps({"n_bytes": 2_000, "vocab_size": 260})
    ended = subprocess.run(
        [*command, size], input="run\nrun\n", text=True, capture_output=True, cwd=ROOT, check=True
    )
    ready, *answers = ended.stdout.splitlines()
    assert ready == "ready"
    assert [json.loads(answer)["result"] for answer in answers] == [4, 4]


def test_the_workers_module_needs_the_standard_library_only():
    source = (ROOT / "benchmarks" / "worker.py").read_text(encoding="utf-8")
    assert "transformer_lessons" not in source
    assert worker.cpu_seconds() > 0
    assert contest.THREADS[0] == "OMP_NUM_THREADS"


STEPS = {"size": "tiny", "precision": "fp32", "compiled": False, "n_steps": 3}


@pytest.mark.parametrize("kind", ["gpt", "llama"])
def test_training_steps_agree_with_transformers(kind):  # SPEC E7
    work = training.ours(kind=kind, **STEPS)
    first, again = measure(work).result, measure(work).result
    assert first == again  # every run begins at the same weights, with nothing remembered
    assert len(first) == 6
    variant = training.ours(kind=kind, **STEPS, attention="fused_attend", loss_chunk_size=7)
    for peer in (variant, training.huggingface(kind=kind, **STEPS)):
        assert training.same_steps(first, measure(peer).result, training.TOLERANCE["fp32"])
    narrow = measure(training.huggingface(kind=kind, **STEPS | {"precision": "bf16"})).result
    assert not training.same_steps(first, narrow, 1e-6)
    assert training.same_steps(first, narrow, training.TOLERANCE["bf16"])


def test_a_wrong_model_is_noticed(monkeypatch):  # SPEC E7
    expected = measure(training.ours(kind="llama", **STEPS)).result
    words = training_model.WORDS["llama"]
    monkeypatch.setitem(words, "gate.weight", "up_proj.weight")
    monkeypatch.setitem(words, "up.weight", "gate_proj.weight")
    found = measure(training.huggingface(kind="llama", **STEPS)).result
    assert not training.same_steps(expected, found, training.TOLERANCE["fp32"])


def test_names_of_the_peers_cover_every_weight():
    # SPEC F6
    weights = training_model.starting_weights(training_model.shape_of("tiny", "llama"))
    qkv = weights["blocks.1.attention.qkv.weight"]
    llama = training_model.in_words_of("llama", weights)
    assert llama["model.layers.1.self_attn.k_proj.weight"].equal(qkv[16:32])
    litgpt = training_model.in_words_of("litgpt", weights)
    assert litgpt["transformer.h.1.attn.qkv.weight"].equal(qkv)
    up = weights["blocks.0.feedforward.up.weight"]
    assert litgpt["transformer.h.0.mlp.fc_2.weight"].equal(up)
    assert len(litgpt) == len(weights) == len(llama) - 4


def test_peers_take_the_step_in_every_way_that_may_be_faster():
    names = [one.name for one in training_run.contest("tiny", "gpt", "bf16", True)]
    first = ["GPT-2, transformers", "GPT-2, transformers, eager attention", "GPT-2, ours"]
    assert names == first + [f"{name}, memory kept" for name in first]
    assert [one.name for one in training_run.contest("tiny", "gpt", "fp32", True)] == first


def test_memory_is_kept_by_the_environment():
    count = (
        "import resource, sys\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "bytes(32 << 20), bytes(64 << 20)\n"
        "before = faults()\n"
        "for _ in range(8): bytearray(b'x' * (32 << 20))\n"
        "print(faults() - before)\n"
    )
    found = [
        int(subprocess.run([sys.executable, "-c", count], env=os.environ | more, check=True,
                           capture_output=True, text=True).stdout)
        for more in ({}, training_run.KEPT)
    ]  # fmt: skip
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        assert found[1] < found[0] / 2


def test_a_machine_is_known_by_its_processor_and_its_tiles(monkeypatch):
    monkeypatch.setattr(machine, "processor", lambda: "A")
    monkeypatch.setattr(machine.Path, "read_text", lambda path: "flags: avx512f amx_tile")
    assert machine.machine_kind() == "A, with AMX"
    monkeypatch.setattr(machine.Path, "read_text", lambda path: "flags: avx512f")
    assert machine.machine_kind() == "A, without AMX"


def test_the_table_of_growth_in_its_tiny_form(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    before = PAGE.read_bytes()
    growth_run.main(["--tiny"])
    assert PAGE.read_bytes() == before
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0] == "growth"
    assert [line.split(", by ")[1].split(" | ")[0] for line in lines[4:]] == [
        "sequences",
        "tokens in a sequence",
        "tokens in the vocabulary",
        "bytes",
        "bytes",
        "rows of its embedding",
    ]


def test_operations_of_a_step_by_hand():  # SPEC F6
    shape = training_model.shape_of("tiny", "gpt")
    block = 4 * 16 * 16 + 2 * 16 * 64 + 2 * 8 * 16
    assert shape.flops() == 6 * 24 * (2 * block + 16 * 65)


def test_a_training_row_by_hand():  # SPEC F6
    results = {
        "a peer": Results([Run(4, 4, [1, 1, 1, 1])], 10),
        "a peer, memory kept": Results([Run(1.5, 2, [1, 1, 1, 1])], 10),
        "the best peer": Results([Run(2, 4, [1, 1, 1, 1])], 20),
        "ours": Results([Run(1, 1, [1, 1, 1, 1])], 5.4),
    }
    rows = training_run.rows_of(results, flops=30e9, n_tokens=80, limit=60)
    once = "{0:.2f} ({0:.2f}–{0:.2f})".format
    assert rows == [
        ["a peer", "2,000", "20", "2,000", once(2), "1.00", "2.00", "12%", "10"],
        ["a peer, memory kept", "750", "53", "1,000", once(0.75), "0.50", "1.00", "33%", "10"],
        ["the best peer", "1,000", "40", "2,000", once(1), "1.00", "2.00", "25%", "20"],
        ["ours", "500", "80", "500", once(0.5), "0.25", "0.50", "50%", "5"],
    ]
    del results["a peer, memory kept"]
    rows = training_run.rows_of(results, flops=30e9, n_tokens=80, limit=60)
    assert rows[-1] == ["ours", "500", "80", "500", once(0.5), "0.25", "50%", "5"]


def test_times_of_a_step_are_shared_out():  # SPEC F6
    times = training_profile.share_out(
        [("aten::addmm", 2.0), ("aten::bmm", 1.0), ("aten::copy_", 0.5), ("aten::mul", 0.25)]
    )
    assert {group: time for group, time in times.items() if time} == {
        "matrix products": 3.0,
        "copies and changes of precision": 0.5,
        training_profile.OTHER: 0.25,
    }
    found = training_profile.profile_step("tiny", compiled=False, loss_chunk_size=7)
    assert all(found[group] > 0 for group in found if group != "what the compiler fused")


@pytest.mark.usefixtures("in_this_process")
def test_a_training_section_in_its_tiny_form(capsys, monkeypatch, tmp_path):  # SPEC F6
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(training_run, "LITGPT", tmp_path)
    monkeypatch.setattr(training_run, "matmul_limit", lambda dtype: 100.0)
    before = PAGE.read_bytes()
    training_run.main(["--tiny", "training-S-eager-bf16"])
    assert PAGE.read_bytes() == before
    lines = capsys.readouterr().out.strip().splitlines()
    kept = ", memory kept"
    assert [line.split(" | ")[0] for line in lines[4:12]] == [
        f"| {kind}, {program}{how}"
        for kind in ("GPT-2", "Llama")
        for how in ("", kept)
        for program in ("transformers", "ours")
    ]
    assert lines[-1] == training_run.WITHOUT_LITGPT


def test_the_plot_is_drawn_from_the_tables_of_the_page(tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    found = training_plot.rates(text, "training-M-eager-fp32")
    names = {"GPT-2, transformers", "GPT-2, ours", "Llama, transformers", "Llama, ours"}
    assert names <= found.keys()
    section = text.split("begin training-M-eager-fp32")[1]
    row = re.search(r"\| Llama, ours \| [\d,]+ \| ([\d,]+) ", section)
    assert found["Llama, ours"] == float(row[1].replace(",", ""))
    training_plot.draw(text, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
