"""Recording, patching and ablating are exact: nothing done changes nothing, all done is all."""

import pytest
import torch

from transformer_lessons.analysis import activation_patching, activations, head_ablation
from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.cache import KVCache
from transformer_lessons.presets import preset

CONFIG = ModelConfig(
    20, context_length=9, d_model=16, n_layers=3, n_heads=4, n_kv_heads=2, d_ff=10, qk_norm=True
)
GPT = ModelConfig(
    20, context_length=9, d_model=12, n_layers=2, n_heads=3, d_ff=10, position="learned"
)
BLOCKS = [f"blocks.{layer}" for layer in range(3)]


def some_tokens(seed, n_texts=2):
    return torch.randint(20, (n_texts, 9), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model(random_model):
    return random_model(CONFIG, size=0.4)


def outputs(model, tokens):
    return {name: written for name, (_, written) in activations(model, tokens).items()}


# ---- Recording -----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, GPT, preset("fluctlight")])
def test_what_one_module_writes_the_next_one_reads(random_model, config):
    model, tokens = random_model(config, size=0.3), some_tokens(0)
    seen = activations(model, tokens)
    assert set(seen) == {name for name, _ in model.named_modules()} - {"blocks"}
    assert torch.equal(seen["blocks.0"][1], seen["blocks.1"][0])
    assert torch.equal(seen["final_norm"][1], seen["head"][0])
    assert torch.equal(seen["head"][1], model(tokens))
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear):
                assert torch.equal(module(seen[name][0]), seen[name][1])


def test_looking_leaves_no_hook_and_no_mode_behind(model):
    model.train()
    activations(model, some_tokens(0))
    with pytest.raises(LessonsError, match="10 tokens"):
        activations(model, torch.zeros(1, 10, dtype=torch.long))
    assert model.training
    assert all(not module._forward_hooks for module in model.modules())


# ---- Patching ------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [BLOCKS, ["blocks.2"], ["embedding"], ["head"]])
def test_patching_everything_is_the_clean_run(model, names):
    clean, corrupted = some_tokens(0), some_tokens(1)
    values = {name: written for name, written in outputs(model, clean).items() if name in names}
    with activation_patching(model, values):
        assert torch.equal(model(corrupted), model(clean))


@pytest.mark.parametrize(("names", "positions"), [([], None), (BLOCKS, []), (BLOCKS, ())])
def test_patching_nothing_is_the_corrupted_run(model, names, positions):
    clean, corrupted = some_tokens(0), some_tokens(1)
    written, expected = outputs(model, clean), model(corrupted)
    with activation_patching(model, {name: written[name] for name in names}, positions):
        assert torch.equal(model(corrupted), expected)


def test_a_patched_position_is_clean_and_those_before_it_are_corrupted(model):
    clean, corrupted = some_tokens(0), some_tokens(1)
    written, before = outputs(model, clean), outputs(model, corrupted)
    with activation_patching(model, {"blocks.1": written["blocks.1"]}, [4, -1]):
        seen = outputs(model, corrupted)
    assert torch.equal(seen["blocks.1"][:, [4, 8]], written["blocks.1"][:, [4, 8]])
    others = [0, 1, 2, 3, 5, 6, 7]
    assert torch.equal(seen["blocks.1"][:, others], before["blocks.1"][:, others])
    assert torch.equal(seen["blocks.2"][:, :4], before["blocks.2"][:, :4])
    assert not torch.equal(seen["blocks.2"][:, 5], before["blocks.2"][:, 5])  # it sees 4


def test_replacing_one_token_is_patching_its_embedding(model):
    clean, corrupted = some_tokens(0), some_tokens(1)
    mixed = corrupted.clone()
    mixed[:, 3] = clean[:, 3]
    with activation_patching(model, {"embedding": outputs(model, clean)["embedding"]}, [3]):
        assert torch.equal(model(corrupted), model(mixed))


def test_the_patch_ends_with_the_block_even_by_an_error(model):
    tokens, values = some_tokens(0), {"blocks.0": torch.zeros(2, 9, 16, dtype=torch.float64)}
    expected = model(tokens)
    with pytest.raises(LessonsError, match="10 tokens"), activation_patching(model, values):
        model(torch.zeros(2, 10, dtype=torch.long))
    assert torch.equal(model(tokens), expected)


def test_the_values_are_not_changed_and_not_shared(model):
    values = {"blocks.0": outputs(model, some_tokens(0))["blocks.0"]}
    kept = values["blocks.0"].clone()
    with activation_patching(model, values, [0]):
        model(some_tokens(1))
    assert torch.equal(values["blocks.0"], kept)


@pytest.mark.parametrize(
    ("name", "values", "positions", "message"),
    [
        ("blocks.3", torch.zeros(2, 9, 16), None, "no module 'blocks.3'. print"),
        ("blocks.0", torch.zeros(1, 9, 16), None, r"values \(1, 9, 16\) for an output \(2, 9, 16"),
        ("blocks.0", torch.zeros(2, 9, 16), [9], "position 9 is not from 0 to 8"),
        ("blocks.0", torch.zeros(2, 9, 16), [-10], "position -10 is not from 0 to 8"),
    ],
)
def test_patches_that_fit_nowhere(model, name, values, positions, message):  # SPEC F5
    with pytest.raises(LessonsError, match=message):  # noqa: SIM117
        with activation_patching(model, {name: values.double()}, positions):
            model(some_tokens(0))


def test_a_patch_is_refused_where_a_cache_makes_the_run_shorter(model):  # SPEC F5
    tokens, cache = some_tokens(0), KVCache(CONFIG, 2, dtype=torch.float64)
    model(tokens[:, :8], cache)
    values = {"blocks.0": outputs(model, tokens)["blocks.0"]}
    with pytest.raises(LessonsError, match=r"\(2, 9, 16\) for an output \(2, 1, 16\) \(blocks.0"):  # noqa: SIM117
        with activation_patching(model, values):
            model(tokens[:, 8:], cache)


# ---- Ablation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean_over", [None, some_tokens(3)])
def test_ablating_no_head_changes_nothing(model, mean_over):
    tokens = some_tokens(0)
    expected = model(tokens)
    with head_ablation(model, [], mean_over):
        assert torch.equal(model(tokens), expected)


@pytest.mark.parametrize("mean", [False, True])
def test_an_ablated_head_is_one_whose_output_is_replaced_by_hand(random_model, mean):
    """The columns of head h in the output matrix times its mean are a bias; without them, zero."""
    config = ModelConfig(
        20, context_length=9, d_model=12, n_layers=2, n_heads=3, d_ff=10, bias=True
    )
    model, by_hand = random_model(config, size=0.4), random_model(config, size=0.4)
    tokens, others = some_tokens(0), some_tokens(3)
    out = by_hand.blocks[1].attention.out
    columns = slice(4, 8)  # head 1, 4 numbers wide
    read = []
    hook = out.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    by_hand(others)
    hook.remove()
    with torch.no_grad():
        if mean:
            out.bias += out.weight[:, columns] @ read[0][..., columns].mean((0, 1))
        out.weight[:, columns] = 0
    with head_ablation(model, [(1, 1)], others if mean else None):
        torch.testing.assert_close(model(tokens), by_hand(tokens), rtol=0, atol=1e-12)


def test_several_heads_of_several_layers(model):
    tokens = some_tokens(0)
    heads = [(0, 1), (2, 0), (2, 3)]
    with head_ablation(model, iter(heads)):
        seen = activations(model, tokens)
    # The hook of `activations` comes after ours, so it sees what the matrix was given.
    for layer, silent in ((0, [1]), (1, []), (2, [0, 3])):
        mixed = seen[f"blocks.{layer}.attention.out"][0].unflatten(-1, (4, 4))
        zero = [head for head in range(4) if not mixed[:, :, head].any()]
        assert zero == silent


def test_a_head_that_says_its_mean_everywhere_keeps_its_mean(model):
    tokens = some_tokens(0)
    before = activations(model, tokens)["blocks.1.attention.out"][0].unflatten(-1, (4, 4))
    with head_ablation(model, [(1, 2)], tokens):
        after = activations(model, tokens)["blocks.1.attention.out"][0].unflatten(-1, (4, 4))
    assert torch.equal(after[:, :, [0, 1, 3]], before[:, :, [0, 1, 3]])
    torch.testing.assert_close(after[:, :, 2].mean((0, 1)), before[:, :, 2].mean((0, 1)))
    assert after[:, :, 2].var((0, 1)).max() < 1e-20


@pytest.mark.parametrize("heads", [[(3, 0)], [(0, 4)], [(-1, 0)], (1, 0), [(0,)], ["0.1"]])
def test_heads_that_are_not_there(model, heads):  # SPEC F5
    expected = model(some_tokens(0))
    with pytest.raises(LessonsError, match="no \\(layer, head\\) of this model"):  # noqa: SIM117
        with head_ablation(model, [(0, 0), *heads] if isinstance(heads, list) else heads):
            pass
    assert torch.equal(model(some_tokens(0)), expected)  # no hook is left
