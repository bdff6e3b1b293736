"""The forward pass in integers: exact steps, a bound that holds, and the float model's answers.

# SPEC F13
"""

import itertools
import math
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.presets import preset
from transformer_lessons.weights.fixed_point import (
    fixed_forward,
    largest_sum,
    powers_of_two,
    round_shift,
    to_fixed,
)

from .json_model import load_json

WIDGETS = Path(__file__).parents[2] / "book" / "_static" / "widgets"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The trained fluctlight of lesson 1's page."""
    text = (WIDGETS / "first_model_weights.js").read_text(encoding="utf-8")
    path = tmp_path_factory.mktemp("model") / "model.json"
    path.write_text(text[text.index("{") :].rstrip(";\n"))
    return load_json(path).eval()


def test_a_shift_rounds_to_the_nearest_and_halves_upwards():  # SPEC F13
    for bits in (0, 1, 3):
        for x in range(-40, 41):
            expected = math.floor(Fraction(x, 2**bits) + Fraction(1, 2))
            assert round_shift(torch.tensor(x), bits).item() == expected
            assert round_shift(torch.tensor([x]), torch.tensor([bits])).item() == expected


@pytest.mark.parametrize("bits", [4, 8, 10, 16, 24])
def test_powers_of_two(model, bits):  # SPEC F13
    fixed, one = to_fixed(model, bits), 2**bits
    below = torch.cat([torch.arange(0, 3 * one, max(1, one // 500)), torch.tensor([one * 50])])
    powers = powers_of_two(fixed, -below[:, None].T)[0]
    exact = 2.0 ** -(below.double() / one) * one
    # Half a unit each for the table, the product and the shift, and what the straight line lacks.
    assert ((powers - exact).abs() <= 1.5 + 2.3e-7 * one).all()
    assert (int(powers[0]), int(powers[-1])) == (one, 0)
    assert (powers.diff()[:-1] <= 0).all()


def in_plain_python(fixed, tokens):
    """The same steps as `fixed_forward`, number by number, in Python's own integers."""
    bits, one, half = fixed.bits, 1 << fixed.bits, 1 << fixed.bits >> 1
    weights = {name: tensor.tolist() for name, tensor in fixed.tensors.items()}

    def shift(x, n=bits):
        return math.floor(Fraction(x, 2**n) + Fraction(1, 2))

    def linear(name, x):
        rows, biases = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return [
            shift(sum(w * y for w, y in zip(row, x, strict=True))) + b
            for row, b in zip(rows, biases, strict=True)
        ]

    def turn(pair, t):
        [cos], [sin], (x, y) = weights["cos"][t], weights["sin"][t], pair
        return [shift(x * cos - y * sin), shift(y * cos + x * sin)]

    def power(below):
        whole, part = divmod(below, one)
        place, rest = divmod(part << 10, one)
        exact = weights["powers"][place]
        value = exact - shift(exact * shift(rest * weights["ln 2"]), bits + 10)
        return shift(value, min(whole, bits + 2))

    assert half
    stream = [list(weights["embedding.weight"][token]) for token in tokens]
    for layer in range(fixed.n_layers):
        qkv = [linear(f"blocks.{layer}.attention.qkv", x) for x in stream]
        mixed = [[] for _ in tokens]
        for first in (0, 2):
            q, k = (
                [turn(row[part + first : part + first + 2], t) for t, row in enumerate(qkv)]
                for part in (0, 4)
            )
            for t in range(len(tokens)):
                scores = [shift(sum(a * b for a, b in zip(q[t], k[s], strict=True)))
                          for s in range(t + 1)]  # fmt: skip
                powers = [power(max(scores) - score) for score in scores]
                for i in (8 + first, 9 + first):
                    total = sum(p * qkv[s][i] for s, p in enumerate(powers))
                    mixed[t].append(math.floor(Fraction(total, sum(powers)) + Fraction(1, 2)))
        for t, x in enumerate(stream):
            added = linear(f"blocks.{layer}.attention.out", mixed[t])
            x = [a + b for a, b in zip(x, added, strict=True)]
            hidden = [max(h, 0) for h in linear(f"blocks.{layer}.feedforward.up", x)]
            added = linear(f"blocks.{layer}.feedforward.down", hidden)
            stream[t] = [a + b for a, b in zip(x, added, strict=True)]
    return [linear("head", x) for x in stream]


@pytest.mark.parametrize("bits", [3, 11, 20])
def test_it_is_the_same_in_plain_python(random_model, bits):  # SPEC F13
    fixed = to_fixed(random_model(preset("fluctlight")).float(), bits)
    generator = torch.Generator().manual_seed(bits)
    tokens = torch.randint(0, 256, (2, 9), generator=generator)
    logits = fixed_forward(fixed, tokens)
    assert logits.dtype == torch.int64
    assert logits.tolist() == [in_plain_python(fixed, row) for row in tokens.tolist()]


@pytest.mark.parametrize(
    "config",
    [
        preset("fluctlight"),
        replace(preset("fluctlight"), n_heads=1),  # heads of width 4, two pairs each
        ModelConfig(9, 5, d_model=2, n_layers=4, n_heads=1, d_ff=3, adaptive_norm=True),
    ],
)
def test_with_many_bits_it_is_the_float_model(random_model, config):  # SPEC F13
    model = random_model(config, size=0.4)
    shape = (4, config.context_length)
    tokens = torch.randint(0, config.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(tokens)
    for bits in (12, 16, 20):
        logits = fixed_forward(to_fixed(model, bits), tokens).double() / 2**bits
        # An error of some hundred units at most; and of the straight line in the table.
        torch.testing.assert_close(logits, expected, rtol=0, atol=500 / 2**bits + 2e-5)


def test_it_uses_no_float(model, monkeypatch):  # SPEC F13
    fixed, kinds = to_fixed(model, 16), set()

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            kinds.update({result.dtype} if isinstance(result, torch.Tensor) else ())
            return result

    with Spy():
        fixed_forward(fixed, torch.tensor([[97, 98, 97]]))
    assert kinds == {torch.int64, torch.bool}
    assert {tensor.dtype for tensor in fixed.tensors.values()} == {torch.int64}


@pytest.mark.parametrize("bits", [4, 12, 16, 22])
@pytest.mark.parametrize("is_trained", [True, False])
def test_no_sum_is_over_the_bound(model, random_model, is_trained, bits):  # SPEC F13
    chosen = model if is_trained else random_model(preset("fluctlight"), size=0.5)
    fixed, tokens = to_fixed(chosen, bits), torch.arange(4800).view(300, 16) * 7919 % 256
    seen = largest_sums(fixed, tokens)
    assert len(seen) == 2 * 8 + 1  # qkv, two turns, scores, average, out, up, down; the head
    assert max(seen) <= largest_sum(fixed) < 2**62
    assert not is_trained or max(seen) > largest_sum(fixed) / 100


def largest_sums(fixed, tokens):
    sums = []
    fixed_forward(fixed, tokens, lambda x: sums.append(int(x.abs().max())))
    return sums


def test_the_bound_is_reached_by_a_model_that_is_made_for_it():  # SPEC F13
    """All weights positive, one byte, one token: a sum of the head is just below the bound."""
    config = ModelConfig(1, 1, d_model=2, n_layers=1, n_heads=1, d_ff=1, adaptive_norm=True)
    model = Decoder(config)
    for parameter in model.parameters():
        parameter.data.fill_(3.0)
    fixed = to_fixed(model, 12)
    assert (
        0.999 * largest_sum(fixed)
        < max(largest_sums(fixed, torch.tensor([[0]])))
        <= largest_sum(fixed)
    )


@pytest.mark.parametrize("part", ["v", "q and k"])
def test_the_bound_holds_where_attention_has_the_largest_sum(part):  # SPEC F13
    """All weights are zero but a bias: of v, which is summed up; of q and k, in other places."""
    model = Decoder(preset("fluctlight"))
    for parameter in model.parameters():
        parameter.data.zero_()
    places = [8, 9, 10, 11] if part == "v" else [0, 2, 5, 7]  # q = (50, 0), k = (0, 50)
    model.blocks[0].attention.qkv.bias.data[places] = 50.0
    fixed = to_fixed(model, 10)
    reached, bound = max(largest_sums(fixed, torch.zeros(1, 16).long())), largest_sum(fixed)
    assert bound / 3 < reached <= bound  # |x1| + |x2| for the length of (x1, x2), in q and in k


def test_the_answers_on_all_pairs_of_bytes(model):  # SPEC F13
    """All 65,536 inputs, both positions; where the answers differ, the float model hesitates."""
    pairs = torch.cartesian_prod(torch.arange(256), torch.arange(256))
    with torch.inference_mode():
        expected = model(pairs)
    best = expected.topk(2).values
    gaps = best[..., 0] - best[..., 1]
    for bits, most in ((12, 1500), (16, 20), (20, 2)):
        answers = fixed_forward(to_fixed(model, bits), pairs).argmax(dim=-1)
        differs = answers != expected.argmax(dim=-1)
        assert int(differs.sum()) <= most
        assert not differs.any() or gaps[differs].max() < 64 / 2**bits


def test_the_answers_on_all_texts_of_two_letters(model):  # SPEC F13
    texts = torch.tensor(list(itertools.product((97, 98), repeat=12)))
    with torch.inference_mode():
        expected = model(texts).argmax(dim=-1)
    for bits in (12, 16, 20):
        assert torch.equal(fixed_forward(to_fixed(model, bits), texts).argmax(dim=-1), expected)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"norm": "rms"}, "norm"),
        ({"ffn": "gelu"}, "ffn"),
        ({"bias": False}, "bias"),
        ({"position": "learned"}, "position"),
        ({"rope_v_scale": 0.5}, "rope_v_scale"),
        ({"tie_embeddings": True}, "tie_embeddings"),
        ({"adaptive_norm": False}, "adaptive_norm"),
        ({"d_model": 8}, "d_model"),
    ],
)
def test_other_models_are_refused(changes, field):  # SPEC F13
    with pytest.raises(LessonsError, match="isn't computed in integers") as error:
        to_fixed(Decoder(replace(preset("fluctlight"), **changes)), 16)
    assert error.value.where == f"ModelConfig.{field}"


def test_bits_that_int64_cannot_hold(model):  # SPEC F13
    for bits in (0, -1, 31, 16.0, True, "16"):
        with pytest.raises(LessonsError, match=r"is not an integer from 1 to 30 \(bits\)"):
            to_fixed(model, bits)
    with pytest.raises(LessonsError, match=r"may reach 2\*\*\d+\.\d \(bits\)\. int64 ends"):
        to_fixed(model, 29)
    assert largest_sum(to_fixed(model, 22)) < 2**62
    assert sys.float_info.mant_dig == 53  # the bound is a double: right to 16 digits, below 2**62


def test_the_model_itself_stays_as_it_was(random_model):  # SPEC F13
    model = random_model(preset("fluctlight"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    to_fixed(model, 16)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
