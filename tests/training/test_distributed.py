"""Several processes take the steps of one: started by torchrun once, for all tests of this file."""

import json
import os
import subprocess
import sys

import pytest
import torch

from transformer_lessons.data.batches import IGNORE
from transformer_lessons.data.sampler import WindowLoader
from transformer_lessons.errors import LessonsError
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.training.distributed import (
    Ranks,
    check_same,
    find_ranks,
    is_first,
    one_voice,
    own_rows,
)
from transformer_lessons.training.rank_trainer import load_distributed

# Every rank trains each way twice: alone, on all rows, and together with the others.
WORKER = """
import json, sys, torch
from dataclasses import replace
import torch.distributed as dist
from torch.distributed import checkpoint
from transformer_lessons.config import ModelConfig
from transformer_lessons.data.batches import IGNORE
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.training.checkpoint import load_checkpoint, save_checkpoint
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.distributed import find_ranks, gather, joined
from transformer_lessons.training.evaluate import evaluate
from transformer_lessons.training.rank_trainer import RankTrainer, evaluate_together, load_whole
from transformer_lessons.training.rank_trainer import whole_run
from transformer_lessons.training.trainer import Trainer

LLAMA = ModelConfig(256, 16, d_model=12, n_layers=2, n_heads=2, d_ff=36, norm="rms", ffn="swiglu",
                    bias=False, head_bias=False, tie_embeddings=True)
WAYS = {
    "sgd": (preset("fluctlight"), {}),
    "adamw": (LLAMA, {}),
    "chunks": (LLAMA, {"loss_chunk_size": 8, "fused": True}),
    "muon": (LLAMA, {"optimizer": "muon"}),
    "dropout": (replace(LLAMA, dropout=0.3, adaptive_norm=False), {}),
}

def batches(n_rows=7, seed=0):  # rows with 16, 7 and no targets; no number of ranks divides 7
    generator = torch.Generator().manual_seed(seed)
    while True:
        tokens = torch.randint(0, 256, (n_rows, 17), generator=generator)
        targets = tokens[:, 1:].clone()
        targets[:3, :9], targets[n_rows - 1 :] = IGNORE, IGNORE
        yield tokens[:, :-1], targets

def make(way, kind, **changes):
    model, options = WAYS[way]
    torch.manual_seed(1)
    options = {"steps": 20, "learning_rate": 0.01, "grad_accum_steps": 2} | options | changes
    given = Decoder(model), TrainConfig(**options), batches()
    if kind == "alone":
        trainer = Trainer(*given)
    else:
        trainer = RankTrainer(*given, shard=kind == "fsdp")
    if way == "sgd":
        trainer.optimizers = [torch.optim.SGD(trainer.model.parameters(), lr=0.1)]
    return trainer

def numbers(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])

def held(tensors):
    locals_ = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
    return sum(t.numel() * t.element_size() for t in locals_)

def measure(way, kind):
    alone, together = make(way, "alone"), make(way, kind)
    reports = alone.fit(), together.fit()
    model, _ = whole_run(together)
    losses = [abs(a.loss - b.loss) for a, b in zip(*reports)]
    norms = [abs(a.grad_norm - b.grad_norm) / a.grad_norm for a, b in zip(*reports)]
    parameters, optimizer = list(together.model.parameters()), together.optimizers[0]
    averages = [t for of in optimizer.state.values() for t in of.values() if t.ndim]
    found = {"loss": max(losses), "norm": max(norms), "n_targets": reports[1][0].n_targets}
    found["parameters"] = (numbers(alone.model) - numbers(model)).abs().max().item()
    found["moved"] = (numbers(make(way, "alone").model) - numbers(model)).abs().max().item()
    kinds = {"weights": parameters, "gradients": [p.grad for p in parameters], "averages": averages}
    found["bytes"] = {name: gather(held(tensors)) for name, tensors in kinds.items()}
    return found

def refusal(function):
    try:
        function()
    except LessonsError as error:
        return str(error)

def skipped_exchanges():
    \"\"\"How far a rank's gradients are from another's before the last batch, and after it.\"\"\"
    trainer, apart = make("adamw", "ddp"), []
    exchange = trainer.exchange_gradients
    def watched(is_wanted):
        if is_wanted:
            apart.append(trainer.model.head.weight.grad.norm().item())
        exchange(is_wanted)
    trainer.exchange_gradients = watched
    trainer.step(iter(batches()))
    return gather(apart[0]), gather(trainer.model.head.weight.grad.norm().item())

def one_bad_rank():
    trainer = make("adamw", "ddp")
    loss = trainer.sum_of_losses
    def bad(inputs, targets):
        return loss(inputs, targets) * (float("nan") if trainer.rank == 1 else 1.0)
    before = numbers(trainer.model)
    trainer.step(iter(batches()))
    good = numbers(trainer.model)
    trainer.sum_of_losses = bad
    message = refusal(lambda: trainer.step(iter(batches())))
    return message, torch.equal(numbers(trainer.model), good), torch.equal(before, good)

def one_bad_gradient():
    \"\"\"Rank 1 adds sqrt(|x - x|), which is 0; its gradient is infinity times 0: nan.\"\"\"
    trainer = make("adamw", "ddp")
    def bend(module, given, out):
        zero = out - out.detach()
        return out + zero.abs().sqrt() if trainer.rank == 1 else out
    trainer.model.embedding.register_forward_hook(bend)
    before = numbers(trainer.model)
    message = refusal(lambda: trainer.step(iter(batches())))
    return message, torch.equal(numbers(trainer.model), before)

def stopped_by_one():
    trainer = make("adamw", "ddp")
    def stop(report):
        trainer.stop = trainer.rank == 1 and report.step == 3
    trainer.on_step = stop
    return gather(len(trainer.fit()))

def saved_and_resumed(folder):
    \"\"\"Shares are saved whole and loaded into shares; the rest of the run is the same.\"\"\"
    first = make("dropout", "fsdp", steps=6)
    rows = batches()
    for _ in range(3):
        first.step(rows)
    model, state = whole_run(first)
    checkpoint.save({"model": first.model.state_dict()}, checkpoint_id=folder + "-shares")
    if first.rank == 0:
        save_checkpoint(folder, 3, model, state)
    whole = numbers(model)
    gather(0.0)  # nobody reads before it is written
    second, read = make("dropout", "fsdp", steps=6), load_checkpoint(folder)
    load_whole(second, read.model, read.training)
    restored = numbers(whole_run(second)[0])
    kept = list(batches_after(6))
    for trainer in (first, second):
        for _ in range(3):
            trainer.step(iter(kept))
    ends = [numbers(whole_run(trainer)[0]) for trainer in (first, second)]
    return {"restored": torch.equal(whole, restored), "same end": torch.equal(*ends),
            "numbers": whole.tolist()}

def batches_after(n):
    rows = batches(seed=5)
    return [next(rows) for _ in range(n)]

def evaluations():
    model = make("sgd", "alone").model
    some = batches_after(3)  # not a multiple of 2: in the last round one rank has nothing
    one, all_of_us = evaluate(model, some), evaluate_together(model, some)
    return [one.loss, all_of_us.loss, one.n_targets, all_of_us.n_targets]

ranks = find_ranks()
with joined(ranks, 60):
    ways = [f"{way} {kind}" for way in ("sgd", "adamw", "chunks") for kind in ("ddp", "fsdp")]
    found = {way: measure(*way.split()) for way in ways}
    half, torch.Tensor.bfloat16 = torch.Tensor.bfloat16, torch.Tensor.float  # see the test
    found |= {way: measure(*way.split()) for way in ("muon ddp", "muon fsdp")}
    torch.Tensor.bfloat16 = half
    found["compiled"] = refusal(lambda: make("adamw", "fsdp", compile=True))
    found["exchanges"], found["bad"] = skipped_exchanges(), one_bad_rank()
    found["bad gradient"] = one_bad_gradient()
    found["stopped"], found["evaluations"] = stopped_by_one(), evaluations()
    few = make("adamw", "ddp")
    found["few"] = refusal(lambda: few.step(batches(n_rows=1)))
    found["saved"] = saved_and_resumed(sys.argv[1] + "/run")
    if ranks.rank == 0:
        with open(sys.argv[1] + "/found.json", "w") as file:
            json.dump(found, file)
"""

MANY = [2, 3] if os.environ.get("FAULTS") == "full" else [2]


@pytest.fixture(scope="module", params=MANY)
def found(request, tmp_path_factory):
    """What all ranks found together, the folder that they saved in, and how many there were."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "worker.py").write_text(WORKER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    line = [*torchrun, f"--nproc-per-node={request.param}", "worker.py", str(folder)]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text()), folder, request.param


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
@pytest.mark.parametrize(("way", "tolerance"), [("sgd", 1e-6), ("adamw", 1e-5), ("chunks", 1e-5)])
def test_together_they_take_the_steps_of_one(found, way, tolerance, kind):
    """20 steps of two batches each, in which the ranks have unequal numbers of targets."""
    one = found[0][f"{way} {kind}"]
    assert one["parameters"] <= tolerance
    assert one["loss"] <= 2e-6  # losses are near 5.5: two units in the last place and some
    assert one["norm"] <= 1e-5
    assert one["n_targets"] == 2 * (3 * 7 + 3 * 16)
    assert one["moved"] > 100 * tolerance  # it has learned something to compare


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_muon_makes_whole_matrices_orthogonal(found, kind):
    """In float32: bfloat16 makes a difference in the last place one in the third."""
    assert found[0][f"muon {kind}"]["parameters"] <= 1e-5
    assert found[0][f"muon {kind}"]["moved"] > 1e-2


def test_a_compiled_model_in_shares_is_refused(found):
    assert found[0]["compiled"].startswith("compile = True doesn't go with a model in shares")


def test_a_model_in_shares_is_held_once_by_all_together(found):
    measured, _, n_ranks = found
    for name, copies in [("weights", 1), ("gradients", 1), ("averages", 2)]:
        whole = measured["adamw ddp"]["bytes"][name][0]
        assert measured["adamw ddp"]["bytes"][name] == [whole] * n_ranks
        shares = measured["adamw fsdp"]["bytes"][name]
        assert sum(shares) == whole
        assert max(shares) <= whole / n_ranks * 1.06  # 12 rows go evenly to 2 and 3, 256 don't to 3
        assert whole == copies * measured["adamw ddp"]["bytes"]["weights"][0]


def test_gradients_are_exchanged_only_in_the_last_batch(found):
    before, after = found[0]["exchanges"]
    assert len(set(before)) == len(before)
    assert len(set(after)) == 1


def test_a_number_that_is_not_finite_stops_all_before_the_step(found):
    message, is_unchanged, is_untrained = found[0]["bad"]
    assert message.startswith("the loss of rank 1 is nan (step 2)")
    assert is_unchanged
    assert not is_untrained


def test_a_finite_loss_with_a_bad_gradient_names_the_rank(found):
    message, is_unchanged = found[0]["bad gradient"]
    assert message.startswith("the gradient norm of rank 1 is nan (step 1)")
    assert is_unchanged


def test_a_rank_that_is_told_to_stop_stops_all(found):
    assert found[0]["stopped"] == [3] * found[2]


def test_each_rank_judges_a_part_and_all_know_the_whole(found):
    alone, together, n_alone, n_together = found[0]["evaluations"]
    assert together == pytest.approx(alone, rel=1e-6)
    assert n_together == n_alone


def test_fewer_rows_than_ranks_are_refused(found):
    assert found[0]["few"].startswith(f"a batch of 1 rows for {found[2]} processes")


def test_one_process_reads_what_all_have_saved(found):
    saved = found[0]["saved"]
    loaded = load_checkpoint(found[1] / "run").model
    numbers = torch.cat([p.detach().flatten() for p in loaded.parameters()])
    assert numbers.tolist() == saved["numbers"]  # to the last bit
    assert len(list((found[1] / "run-shares").glob("*.distcp"))) == found[2]
    torch.nn.init.zeros_(loaded.embedding.weight)
    load_distributed(found[1] / "run-shares", loaded)  # what each rank has written of its own
    numbers = torch.cat([p.detach().flatten() for p in loaded.parameters()])
    assert numbers.tolist() == saved["numbers"]
    assert saved["restored"]
    assert saved["same end"]


# What one process can say about many


@pytest.mark.parametrize(("n_rows", "n_ranks"), [(7, 2), (6, 3), (2, 3), (1, 4)])
def test_the_ranks_have_every_row_once(n_rows, n_ranks):
    inputs = torch.arange(n_rows)[:, None]
    parts = [own_rows(inputs, inputs + 10, rank, n_ranks) for rank in range(n_ranks)]
    real = [part[0][part[1] != IGNORE] for part in parts]
    assert torch.cat(real).tolist() == list(range(n_rows))
    assert all(len(part[0]) for part in parts)  # a rank always has something to compute


def test_rows_are_those_of_a_loader_that_knows_its_rank():
    whole = next(iter(WindowLoader(list(torch.arange(40)), batch_size=6, seed=3)))
    for rank in range(3):
        share = next(iter(WindowLoader(list(torch.arange(40)), 2, 3, rank, n_ranks=3)))
        assert torch.equal(own_rows(whole, whole, rank, 3)[0], share)


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert find_ranks() == Ranks()
    assert is_first()


def test_a_port_in_use_is_said_so(monkeypatch):
    import socket

    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        where = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "RANK": "0", "WORLD_SIZE": "1"}
        for name, value in where.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
        with pytest.raises(LessonsError, match=rf"port: {port}.*in use.*Choose another --master"):
            find_ranks()


class Table(dict):
    """A store of one process."""

    set = dict.__setitem__

    def get(self, name):
        return self[name].encode()

    def wait(self, names, time):
        if not set(names) <= set(self):
            raise RuntimeError("nobody has set it")


def test_other_choices_on_a_rank_are_named():
    store = Table()
    check_same(Ranks(0, 2, 0, store), {"the data": "a", "the model": "b"})
    check_same(Ranks(1, 2, 1, store), {"the data": "a", "the model": "b"})
    with pytest.raises(LessonsError, match=r"the model is not the same as on rank 0 \(rank 1\)"):
        check_same(Ranks(1, 2, 1, store), {"the data": "a", "the model": "c"})


def test_an_error_of_all_is_told_once():
    def raises(ranks):
        with one_voice(ranks):
            raise LessonsError("no such file", where="x")

    store = Table()
    with pytest.raises(LessonsError, match=r"^rank 1: no such file \(x\)$"):
        raises(Ranks(1, 2, 1, store))  # rank 0 has said nothing
    with pytest.raises(LessonsError, match=r"^no such file \(x\)$"):
        raises(Ranks(0, 2, 0, store))
    with pytest.raises(SystemExit) as stopped:
        raises(Ranks(1, 2, 1, store))
    assert stopped.value.code == 2
