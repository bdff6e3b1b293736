"""Rows of a table, and positions as waves, against hand numbers, PyTorch and float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import one_hot

from transformer_lessons.model.embedding import Embedding, sinusoidal_table

ROWS = torch.tensor([[0.5, -1.0], [2.0, 3.0], [4.0, -5.0]])


def table_of(rows, scale=1.0):
    table = Embedding(*rows.shape, scale=scale)
    table.load_state_dict({"weight": rows})
    return table


def random_rows(n_rows, d_model, seed=0):
    return torch.randn(n_rows, d_model, generator=torch.Generator().manual_seed(seed))


def formula(position, d_model):
    """The sentence of the paper, number by number, in double precision."""
    row = []
    for number in range(d_model):
        angle = position / 10_000 ** (2 * (number // 2) / d_model)
        row.append(math.cos(angle) if number % 2 else math.sin(angle))
    return row


def test_looks_rows_up():  # SPEC E1
    table = table_of(ROWS)
    assert table(torch.tensor([2, 0, 2])).tolist() == [[4.0, -5.0], [0.5, -1.0], [4.0, -5.0]]
    assert table(torch.tensor(1)).tolist() == [2.0, 3.0]
    assert table(torch.tensor([[[1], [0]]])).tolist() == [[[[2.0, 3.0]], [[0.5, -1.0]]]]


def test_scale_multiplies_the_rows_and_leaves_the_table():  # SPEC E1
    table = table_of(ROWS, scale=3.0)
    assert table(torch.tensor([0, 1])).tolist() == [[1.5, -3.0], [6.0, 9.0]]
    assert torch.equal(table.weight, ROWS)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.sampled_from([1.0, 8.0]))
def test_equals_torch_and_the_one_hot_product(ids, scale):  # SPEC E1
    rows, ids = random_rows(7, 5), torch.tensor(ids)
    ours = table_of(rows, scale)(ids)
    theirs = nn.Embedding.from_pretrained(rows)(ids) * scale
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(ours, scale * one_hot(ids, 7).float() @ rows)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_only_rows_that_were_looked_up_get_a_gradient(scale):  # SPEC E1
    table = table_of(ROWS, scale)
    upstream = torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]])
    table(torch.tensor([2, 0, 2])).backward(upstream)
    by_hand = torch.tensor([[3.0, 4.0], [0.0, 0.0], [11.0, 22.0]])
    assert torch.equal(table.weight.grad, scale * by_hand)


def test_the_gradient_is_that_of_torch():  # SPEC E1
    rows, ids = random_rows(50, 4), torch.randint(50, (3, 30))
    ours, theirs = table_of(rows), nn.Embedding(50, 4)
    theirs.load_state_dict({"weight": rows})
    upstream = random_rows(90, 4, seed=1).view(3, 30, 4)
    for table in (ours, theirs):
        table(ids).backward(upstream)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_gradient_check_in_float64():  # SPEC E1
    table, ids = Embedding(4, 3, scale=2.0).double(), torch.tensor([1, 3, 1])
    apply = torch.func.functional_call

    def look_up(weight):
        return apply(table, {"weight": weight}, (ids,))

    assert torch.autograd.gradcheck(look_up, (table.weight.detach().requires_grad_(),))


def test_the_table_is_the_only_parameter():  # SPEC E1
    table = Embedding(7, 5, scale=2.0)
    assert [(name, tensor.shape) for name, tensor in table.state_dict().items()] == [
        ("weight", (7, 5))
    ]


def test_an_id_outside_the_table_is_refused():  # SPEC E1
    for bad in (3, -1):
        with pytest.raises(IndexError):
            table_of(ROWS)(torch.tensor([bad]))


def test_hand_example():  # SPEC E1
    table = sinusoidal_table(torch.tensor([0, 1, 2]), d_model=4)
    expected = [
        [0.0, 1.0, 0.0, 1.0],
        [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)],
        [math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)],
    ]
    torch.testing.assert_close(table, torch.tensor(expected))


@pytest.mark.parametrize("d_model", [2, 4, 6, 64, 512])
def test_equals_the_formula_in_float64(d_model):  # SPEC E1
    # An angle of 5,000 radians in float32 is a multiple of 0.0005: no closer is possible.
    for positions, tolerance in (([0, 1, 2, 10], 1e-6), ([100, 1000, 4999], 1e-3)):
        table = sinusoidal_table(torch.tensor(positions), d_model).double()
        expected = torch.tensor([formula(p, d_model) for p in positions], dtype=torch.float64)
        torch.testing.assert_close(table, expected, rtol=0, atol=tolerance)


def test_positions_in_float64_keep_their_precision():  # SPEC E1
    table = sinusoidal_table(torch.tensor([1.0, 4999.0, 1e6], dtype=torch.float64), d_model=6)
    expected = [formula(position, 6) for position in (1, 4999, 1_000_000)]
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(table, expected, rtol=0, atol=1e-8)


def test_each_row_depends_on_its_own_position_only():  # SPEC E1
    positions = torch.tensor([7, 0, 300, 7])
    whole = sinusoidal_table(torch.arange(301), d_model=8)
    torch.testing.assert_close(sinusoidal_table(positions, d_model=8), whole[positions])


@pytest.mark.parametrize("shift", [1, 5, -3])
def test_a_shift_is_one_rotation_of_every_pair(shift):  # SPEC E1
    table = sinusoidal_table(torch.arange(60), d_model=8).unflatten(1, (4, 2))  # (T, pairs, 2)
    for pair in range(4):
        angle = shift * 10_000 ** (-pair / 4)
        sine, cosine = table[10:40, pair].unbind(1)
        moved = torch.stack(
            [
                sine * math.cos(angle) + cosine * math.sin(angle),
                cosine * math.cos(angle) - sine * math.sin(angle),
            ],
            dim=1,
        )
        expected = table[10 + shift : 40 + shift, pair]
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)


def test_dot_products_depend_on_the_distance_only():  # SPEC E1
    table = sinusoidal_table(torch.arange(100), d_model=16)
    products = table @ table.T
    for distance in (0, 1, 13):
        by_formula = sum(math.cos(distance * 10_000 ** (-pair / 8)) for pair in range(8))
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(
            diagonal, torch.full_like(diagonal, by_formula), rtol=0, atol=1e-4
        )


def test_rows_have_length_root_of_half_d_model():  # SPEC E1
    lengths = sinusoidal_table(torch.arange(64), d_model=32).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((64,), 4.0))
