"""The references of lesson 08 against the package and against numbers worked out by hand."""

import math

import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.exercises.exercise import find_exercise
from transformer_lessons.model.accounting import kv_bytes
from transformer_lessons.model.attention import attend, causal_mask, repeat_heads


def reference(name):
    return find_exercise(f"08.{name}").reference


@pytest.mark.parametrize(("n_heads", "n_kv_heads"), [(4, 1), (4, 2), (4, 4), (9, 3), (32, 8)])
def test_query_heads_meet_the_key_heads_that_the_package_repeats(n_heads, n_kv_heads):  # SPEC G4
    heads = torch.arange(n_kv_heads).view(1, n_kv_heads, 1, 1)
    repeated = repeat_heads(heads, n_heads // n_kv_heads).flatten().tolist()
    assert [reference("kv_head")(h, n_heads, n_kv_heads) for h in range(n_heads)] == repeated


@pytest.mark.parametrize("case", find_exercise("08.kv_bytes_per_token").cases)
def test_bytes_per_token_are_the_packages(case):  # SPEC G4
    n_layers, n_heads, n_kv_heads, head_dim, size = case
    sizes = {
        "n_layers": n_layers,
        "n_heads": n_heads,
        "n_kv_heads": n_kv_heads,
        "head_dim": head_dim,
    }
    config = ModelConfig(256, 16, d_model=8, d_ff=8, **sizes)
    assert reference("kv_bytes_per_token")(*case) == kv_bytes(config, 1, bytes_per_number=size)


def test_llama_3_2_1b_keeps_32_kib_a_token():  # SPEC G4
    assert reference("kv_bytes_per_token")(16, 32, 8, 64, 2) == 32 * 1024


def test_merged_sums_are_those_of_all_scores():  # SPEC G4
    scores = [1.0, 2.0, 3.0, 0.0]
    parts = []
    for block in (scores[:2], scores[2:]):
        parts += [max(block), sum(math.exp(score - max(block)) for score in block)]
    largest, total = reference("merge_sums")(*parts)
    assert largest == 3.0
    # e^-2 + e^-1 + 1 + e^-3
    assert total == pytest.approx(0.135335 + 0.367879 + 1 + 0.049787, abs=1e-6)


@pytest.mark.parametrize("size", [1.0, 300.0])
def test_merged_outputs_are_attention_over_all_keys(size):  # SPEC G4
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(7, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    q = q * size
    parts = []
    for keys in (slice(0, 3), slice(3, 7)):
        everyone = torch.ones(7, len(k[keys]), dtype=torch.bool)
        scores = q @ k[keys].T / math.sqrt(4)
        parts += [attend(q, k[keys], v[keys], everyone), scores.logsumexp(dim=-1)]
    expected = attend(q, k, v, torch.ones(7, 7, dtype=torch.bool))
    torch.testing.assert_close(reference("merge_outputs")(*parts), expected)


def test_three_to_one_mixes_eight_and_four_to_seven():  # SPEC G4
    case = find_exercise("08.merge_outputs").cases[0]
    torch.testing.assert_close(reference("merge_outputs")(*case), torch.tensor([[7.0]]))


@pytest.mark.parametrize("window", [1, 2, 3, 9])
def test_window_mask_is_the_last_rows_of_the_packages(window):  # SPEC G4
    for n_queries in (1, 2, 5):
        expected = causal_mask(5, window)[-n_queries:]
        assert torch.equal(reference("window_mask")(n_queries, 5, window), expected)


@pytest.mark.parametrize(("n_layers", "window"), [(1, 1), (1, 4), (2, 3), (3, 4)])
def test_reach_is_what_a_change_really_reaches(random_model, n_layers, window):  # SPEC G4
    sizes = {"d_model": 8, "n_heads": 2, "d_ff": 8, "n_layers": n_layers}
    model = random_model(ModelConfig(16, 16, sliding_window=window, **sizes))
    tokens = torch.arange(16)[None]
    changed = tokens.clone()
    changed[0, 0] = 7
    with torch.inference_mode():
        moved = (model(tokens) - model(changed)).abs().amax(dim=(0, 2)) > 1e-9
    assert moved.nonzero().max().item() == reference("reach")(n_layers, window)
