"""LoRA: equal to the base at the start, and to one matrix at the end; adapters in files."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.accounting import count_parameters
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.linear import replace_linear
from transformer_lessons.training.checkpoint import save_checkpoint
from transformer_lessons.training.config import TrainConfig
from transformer_lessons.training.loss import cross_entropy
from transformer_lessons.training.trainer import Trainer
from transformer_lessons.weights.export import export_json
from transformer_lessons.weights.lora import (
    LoraLinear,
    add_lora,
    load_lora,
    merge_lora,
    save_lora,
)
from transformer_lessons.weights.quantize import Int8Linear
from transformer_lessons.weights.shipped import load_shipped

CONFIG = ModelConfig(50, context_length=16, d_model=12, n_layers=2, n_heads=3, d_ff=20)
LLAMA = {"norm": "rms", "ffn": "swiglu", "bias": False, "head_bias": False, "tie_embeddings": True}
CONFIGS = [CONFIG, ModelConfig(**{**CONFIG.to_dict(), **LLAMA})]
TOKENS = torch.arange(20).view(2, 10) % 50
both_configs = pytest.mark.parametrize("config", CONFIGS, ids=["gpt2", "llama"])


def logits(model):
    with torch.inference_mode():
        return model(TOKENS)


def randomized(model, seed=0):
    """The same model, with every adapter at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(noise * 0.3)
    return model


def trained(model, steps=3):
    batches = iter(lambda: (TOKENS, TOKENS.roll(-1, 1)), None)
    trainer = Trainer(model, TrainConfig(steps=steps, learning_rate=0.01), batches)
    trainer.fit()
    states = [state for optimizer in trainer.optimizers for state in optimizer.state.values()]
    n_kept = sum(tensor.numel() for state in states for tensor in state.values() if tensor.ndim)
    assert n_kept == 2 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    return model.eval()


def test_a_layer_by_hand():  # SPEC G10
    lora = LoraLinear(nn.Linear(2, 1, bias=False), rank=2, alpha=6)
    with torch.no_grad():
        lora.layer.weight.copy_(torch.tensor([[1.0, 2.0]]))
        lora.lora_a.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        lora.lora_b.copy_(torch.tensor([[10.0, 20.0]]))
    assert lora(torch.tensor([[1.0, 1.0]])).tolist() == [[1 + 2 + 3 * (10 + 20)]]
    assert lora.merged().weight.tolist() == [[31.0, 62.0]]


@both_configs
def test_at_the_start_it_is_the_base_to_the_bit(config, random_model):  # SPEC G10
    base = random_model(config)
    adapted = add_lora(base, rank=2, alpha=4)
    assert torch.equal(logits(adapted), logits(base))
    n_layers = len([m for m in adapted.modules() if isinstance(m, LoraLinear)])
    assert n_layers == 2 * (4 if config.ffn == "relu" or config.ffn == "gelu" else 5)


@both_configs
def test_merged_is_unmerged(config, random_model, tmp_path):  # SPEC G10
    base = random_model(config)
    adapted = randomized(add_lora(base, rank=2, alpha=4))
    merged = merge_lora(adapted)
    assert (logits(adapted) - logits(base)).abs().max() > 0.1
    torch.testing.assert_close(logits(merged), logits(adapted), rtol=0, atol=1e-10)
    plain = Decoder(config).double()
    plain.load_state_dict(merged.state_dict())  # strict: the names are the Decoder's own
    assert torch.equal(logits(plain.eval()), logits(merged))
    assert all(parameter.requires_grad for parameter in merged.parameters())
    assert (merged.head.weight is merged.embedding.weight) == config.tie_embeddings
    export_json(merged.float(), tmp_path / "merged.json")


@both_configs
def test_only_the_adapters_are_trained(config, random_model):  # SPEC G10
    base = random_model(config).float()
    before = copy.deepcopy(base.state_dict())
    adapted = trained(add_lora(base, rank=2, alpha=4))
    assert all(torch.equal(before[name], value) for name, value in base.state_dict().items())
    moved = {name.rpartition(".")[2] for name, p in adapted.named_parameters() if p.requires_grad}
    assert moved == {"lora_a", "lora_b"}
    assert not torch.equal(logits(adapted), logits(base))
    assert all(parameter.requires_grad for parameter in base.parameters())  # as it was


def test_two_adapted_models_hold_the_base_once(random_model):  # SPEC G10
    base = random_model(CONFIG)
    first, second = (add_lora(base, rank=2, alpha=4) for _ in range(2))
    pointers = {p.data_ptr() for p in base.parameters()}
    for model in (first, second):
        shared = [p.data_ptr() for p in model.parameters() if not p.requires_grad]
        assert set(shared) == pointers
    randomized(first)
    assert torch.equal(logits(second), logits(base))


def test_the_gradient_is_that_of_the_product(random_model):
    """d loss / d B = scale G A^T, with G the gradient of the whole matrix: PyTorch finds G."""
    base = random_model(CONFIG)
    adapted = randomized(add_lora(base, rank=2, alpha=5, names=["blocks.1.feedforward.up"]))
    cross_entropy(adapted(TOKENS), TOKENS.roll(-1, 1)).backward()
    merged = merge_lora(adapted)
    cross_entropy(merged(TOKENS), TOKENS.roll(-1, 1)).backward()
    whole = merged.blocks[1].feedforward.up.weight.grad
    lora = adapted.blocks[1].feedforward.up
    torch.testing.assert_close(lora.lora_b.grad, 2.5 * whole @ lora.lora_a.T)
    torch.testing.assert_close(lora.lora_a.grad, 2.5 * lora.lora_b.T @ whole)


def test_how_many_numbers_python_small_trains():  # SPEC G10
    base, _ = load_shipped()
    adapted = add_lora(base, rank=4, alpha=8)
    n_trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert n_trained == 72_192  # 6 blocks x 4 x (512 + 384 + 3 x 704)
    assert round(100 * n_trained / count_parameters(base), 2) == 2.29


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (["qkv"], ["blocks.0.attention.qkv", "blocks.1.attention.qkv"]),
        (["blocks.1.attention.out"], ["blocks.1.attention.out"]),
        (["feedforward.up", "head"], [f"blocks.{i}.feedforward.up" for i in (0, 1)] + ["head"]),
    ],
)
def test_names_choose_layers(names, paths, random_model):
    adapted = add_lora(random_model(CONFIG), 2, 4, names)
    assert [p for p, m in adapted.named_modules() if isinstance(m, LoraLinear)] == paths


@pytest.mark.parametrize(
    ("rank", "alpha", "names", "complaint"),
    [
        (2, 4, ["query"], "'query' is no linear layer of this model.*Known: down, gate, head"),
        (2, 4, ["embedding"], "'embedding' is no linear layer"),
        (2, 4, ["head"], "shares its matrix with the embedding"),
        (2, 4, [], "no names"),
        (0, 4, None, "rank = 0 is not an integer from 1 to 12"),
        (13, 4, None, "rank = 13"),
        (2.0, 4, None, "rank = 2.0"),
        (True, 4, None, "rank = True"),
        (2, 0, None, "alpha = 0"),
        (2, float("nan"), None, "alpha = nan"),
        (2, "4", None, "alpha = '4'"),
    ],
)
def test_adapters_that_make_no_sense(rank, alpha, names, complaint, random_model):  # SPEC E1
    with pytest.raises(LessonsError, match=complaint):
        add_lora(random_model(CONFIGS[1]), rank, alpha, names)


def test_twice_or_never(random_model, tmp_path):  # SPEC E1
    base = random_model(CONFIG)
    adapted = add_lora(base, 2, 4)
    with pytest.raises(LessonsError, match="this model has adapters"):
        add_lora(adapted, 2, 4)
    for function in (merge_lora, lambda model: save_lora(model, tmp_path / "a")):
        with pytest.raises(LessonsError, match="this model has no adapters"):
            function(base)


def test_an_unmerged_model_is_not_saved_as_a_whole_one(random_model, tmp_path):  # SPEC E1
    adapted = add_lora(random_model(CONFIG).float(), 2, 4)
    for save in (
        lambda: export_json(adapted, tmp_path / "a.json"),
        lambda: save_checkpoint(tmp_path / "checkpoint", 1, adapted),
    ):
        with pytest.raises(LessonsError, match=r"qkv\.lora_a holds .* LoRA that is not merged"):
            save()


def test_beside_int8_weights(random_model):  # SPEC G10
    base = random_model(CONFIGS[1]).float()
    replace_linear(base.blocks, Int8Linear)
    adapted = add_lora(base, rank=2, alpha=4)
    assert torch.equal(logits(adapted), logits(base))
    before = [p.detach().clone() for p in adapted.parameters() if p.requires_grad]
    trained(adapted)
    after = [p for p in adapted.parameters() if p.requires_grad]
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    with pytest.raises(LessonsError, match="rounded to int8"):
        merge_lora(adapted)


# --- files -----------------------------------------------------------------------------------


@pytest.fixture
def saved(random_model, tmp_path):
    """A base, a model with adapters beside it, and the folder where they are."""
    base = random_model(CONFIG).float()
    adapted = randomized(add_lora(base, rank=3, alpha=7, names=["qkv", "down"]))
    save_lora(adapted, tmp_path / "adapter")
    return base, adapted, tmp_path / "adapter"


def test_adapters_come_back_to_the_bit(saved):  # SPEC G10
    base, adapted, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["adapter.json", "adapter.safetensors"]
    assert len(load_file(folder / "adapter.safetensors")) == 8  # the adapters alone
    assert torch.equal(logits(load_lora(base, folder)), logits(adapted))
    assert torch.equal(logits(load_lora(copy.deepcopy(base), folder)), logits(adapted))


def test_adapters_of_different_rank_are_not_saved(saved, tmp_path):  # SPEC E1
    _, adapted, _ = saved
    layer = adapted.blocks[1].attention.qkv.layer
    adapted.blocks[1].attention.qkv = LoraLinear(layer, rank=2, alpha=7)
    with pytest.raises(LessonsError, match="different rank or alpha"):
        save_lora(adapted, tmp_path / "mixed")


def test_adapters_beside_int8_come_back(random_model, tmp_path):
    base = random_model(CONFIG).float()
    replace_linear(base.blocks, Int8Linear)
    adapted = randomized(add_lora(base, rank=2, alpha=4))
    save_lora(adapted, tmp_path / "adapter")
    assert torch.equal(logits(load_lora(base, tmp_path / "adapter")), logits(adapted))


def test_a_full_folder_stays_as_it_was(saved):  # SPEC E1
    _, adapted, folder = saved
    with pytest.raises(LessonsError, match="not empty"):
        save_lora(adapted, folder)


def test_another_base(saved, random_model):  # SPEC E1
    base, _, folder = saved
    with torch.no_grad():
        base.final_norm.weight[0] += 1e-3
    small = ModelConfig(**{**CONFIG.to_dict(), "n_layers": 1})
    other = random_model(CONFIG, seed=1).float()
    for model in (base, other, random_model(CONFIG), random_model(small).float()):
        with pytest.raises(LessonsError, match="made for another base model"):
            load_lora(model, folder)


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ({"rank": 2}, r"lora_a': \(3, 12\) of torch.float32, not \(2, 12\) .* as at rank 2"),
        ({"rank": 4}, "as at rank 4"),
        ({"rank": 99}, "rank = 99"),
        ({"rank": None}, "rank is missing"),
        ({"alpha": 0.0}, "alpha = 0.0"),
        ({"alpha": "7"}, "alpha is '7'"),
        ({"layers": ["qkv"]}, r"down.lora_a': \(3, 20\) .*, not missing"),
        ({"layers": ["qkv", "down", "out"]}, r"out.lora_a': missing, not \(3, 12\)"),
        ({"format": "peft"}, "its format is not"),
    ],
)
def test_facts_that_disagree_with_the_tensors(saved, facts, complaint):  # SPEC E1
    base, _, folder = saved
    path = folder / "adapter.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    with pytest.raises(LessonsError, match=complaint):
        load_lora(base, folder)


def test_files_that_are_damaged_or_missing(saved):  # SPEC E1
    base, _, folder = saved
    path = folder / "adapter.safetensors"
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[:-1], b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(LessonsError, match="not a readable safetensors file"):
            load_lora(base, folder)
    path.unlink()
    with pytest.raises(LessonsError, match="there is no file"):
        load_lora(base, folder)


def test_tensors_of_another_kind(saved):  # SPEC E1
    base, _, folder = saved
    path = folder / "adapter.safetensors"
    tensors = load_file(path)
    save_file({name: tensor.to(torch.int32) for name, tensor in tensors.items()}, path)
    with pytest.raises(LessonsError, match="int32"):
        load_lora(base, folder)
