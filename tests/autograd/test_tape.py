"""The tape against PyTorch's autograd and against finite differences, in float64."""

import math

import pytest
import torch
from torch.nn import functional

from transformer_lessons.autograd.tape import (
    Node,
    checkpoint,
    gradient_error,
    numerical_gradient,
)
from transformer_lessons.errors import LessonsError

IDS = torch.tensor([[2, 0], [2, 2]])
TARGETS = torch.tensor([[1, 0, 3], [3, 3, 2]])
MASK = torch.tensor([True, False, True, False])
# name: (shapes of the inputs, the operation on nodes, the same on tensors)
OPERATIONS = {
    "add": (((2, 3), (2, 3)), lambda a, b: a + b, torch.add),
    "add a row": (((2, 3, 4), (4,)), lambda a, b: a + b, torch.add),
    "add to a row": (((4,), (2, 3, 4)), lambda a, b: a + b, torch.add),
    "add both ways": (((3, 1), (2, 1, 4)), lambda a, b: a + b, torch.add),
    "add a number": (((), (2, 3)), lambda a, b: a + b, torch.add),
    "add a constant": (((2, 3),), lambda a: 2.5 + a + 1, lambda a: a + 3.5),
    "mul": (((2, 3), (2, 3)), lambda a, b: a * b, torch.mul),
    "mul both ways": (((3, 1), (2, 1, 4)), lambda a, b: a * b, torch.mul),
    "mul a constant": (((2, 3),), lambda a: -0.5 * a * 3, lambda a: -1.5 * a),
    "mul by a tensor": (((3,),), lambda a: a * torch.arange(3.0), lambda a: a * torch.arange(3.0)),
    "square": (((2, 3),), lambda a: a * a, torch.square),
    "matmul": (((2, 3), (3, 4)), lambda a, b: a @ b, torch.matmul),
    "matmul of batches": (((5, 2, 3), (5, 3, 4)), lambda a, b: a @ b, torch.matmul),
    "matmul by a matrix": (((5, 2, 3), (3, 4)), lambda a, b: a @ b, torch.matmul),
    "matmul both ways": (((5, 1, 2, 3), (2, 3, 2)), lambda a, b: a @ b, torch.matmul),
    "rows": (((3, 2),), lambda a: a[IDS], lambda a: a[IDS]),
    "one of each row": (
        ((2, 4),),
        lambda a: a[torch.arange(2), torch.tensor([3, 0])],
        lambda a: a[torch.arange(2), torch.tensor([3, 0])],
    ),
    "slice": (((2, 5),), lambda a: a[:, 1:4], lambda a: a[:, 1:4]),
    "last": (((2, 4),), lambda a: a[..., [2, 3, 0, 1]], lambda a: a.roll(2, dims=-1)),
    "reshape": (((2, 6),), lambda a: a.reshape(3, -1), lambda a: a.reshape(3, 4)),
    "transpose": (((2, 3, 4),), lambda a: a.transpose(0, 2), lambda a: a.transpose(0, 2)),
    "reshape what was transposed": (
        ((2, 6),),
        lambda a: a.transpose(0, 1).reshape(4, 3),
        lambda a: a.T.reshape(4, 3),
    ),
    "sum": (((2, 3),), lambda a: a.sum(), torch.sum),
    "sum over a dimension": (((2, 3),), lambda a: a.sum(0), lambda a: a.sum(0, keepdim=True)),
    "mean": (((2, 3),), lambda a: a.mean(), torch.mean),
    "mean over a dimension": (((2, 3),), lambda a: a.mean(-1), lambda a: a.mean(-1, True)),
    "exp": (((2, 3),), lambda a: a.exp(), torch.exp),
    "log": (((2, 3),), lambda a: (a * a).log(), lambda a: a.square().log()),
    "rsqrt": (((2, 3),), lambda a: (a * a).rsqrt(), lambda a: a.square().rsqrt()),
    "sigmoid": (((2, 3),), lambda a: a.sigmoid(), torch.sigmoid),
    "relu": (((2, 3),), lambda a: a.relu(), torch.relu),
    "gelu": (((2, 3),), lambda a: a.gelu(), lambda a: functional.gelu(a, approximate="tanh")),
    "silu": (((2, 3),), lambda a: a * a.sigmoid(), functional.silu),
    "masked fill": (
        ((2, 4),),
        lambda a: a.masked_fill(MASK, -2.0),
        lambda a: a.masked_fill(MASK, -2.0),
    ),
    "log-softmax": (((2, 4),), lambda a: a.log_softmax(), lambda a: a.log_softmax(-1)),
    "softmax": (((2, 4),), lambda a: a.log_softmax().exp(), lambda a: a.softmax(-1)),
    "masked softmax": (
        ((2, 4),),
        lambda a: a.masked_fill(MASK, -math.inf).log_softmax().exp(),
        lambda a: a.masked_fill(MASK, -math.inf).softmax(-1),
    ),
    "cross-entropy": (
        ((2, 3, 4),),
        lambda a: a.cross_entropy(TARGETS),
        lambda a: functional.cross_entropy(a.flatten(0, 1), TARGETS.flatten()),
    ),
    "cross-entropy in steps": (
        ((3, 4),),
        lambda a: -1 * a.log_softmax()[torch.arange(3), TARGETS[0]].mean(),
        lambda a: functional.cross_entropy(a, TARGETS[0]),
    ),
    "used three times": (((2, 3),), lambda a: a * a.exp() + a, lambda a: a * a.exp() + a),
}
each_operation = pytest.mark.parametrize(
    ("shapes", "on_tape", "in_torch"), OPERATIONS.values(), ids=OPERATIONS
)


def random_tensors(shapes):
    """Numbers at least 0.2 from 0, where relu has a corner and log a pole."""
    generator = torch.Generator().manual_seed(len(shapes) + sum(map(sum, shapes)))
    numbers = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [x + 0.2 * x.sign() for x in numbers]


def uneven(shape):
    """Weights for a sum in which each element counts differently."""
    return torch.linspace(-1, 2, math.prod(shape), dtype=torch.float64).view(shape)


@each_operation
def test_an_operation_is_pytorchs(shapes, on_tape, in_torch):
    tensors = random_tensors(shapes)
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    nodes = [Node(tensor) for tensor in tensors]
    expected, result = in_torch(*leaves), on_tape(*nodes)
    torch.testing.assert_close(result.data, expected.detach(), rtol=1e-12, atol=1e-12)
    expected.backward(uneven(expected.shape))
    result.backward(uneven(expected.shape))
    for node, leaf in zip(nodes, leaves, strict=True):
        torch.testing.assert_close(node.grad, leaf.grad, rtol=1e-12, atol=1e-12)


@each_operation
def test_an_operation_passes_the_check(shapes, on_tape, in_torch):
    nodes = [Node(tensor) for tensor in random_tensors(shapes)]

    def function():
        result = on_tape(*nodes)
        return (result * uneven(result.data.shape)).sum()

    assert gradient_error(function, *nodes) < 1e-9


@pytest.mark.parametrize(
    ("factor", "least"), [(1.0 + 1e-6, 1e-7), (2.0, 0.3), (0.0, 0.3), (-1.0, 0.3)]
)
def test_the_check_finds_a_wrong_pull_back(factor, least):
    x = Node(torch.tensor([1.0, 2.0], dtype=torch.float64))
    found = gradient_error(
        lambda: Node(x.data.square(), (x, lambda g: factor * 2 * g * x.data)).sum(), x
    )
    assert found > least


def test_the_check_finds_a_missing_gradient_and_keeps_the_numbers():
    x = Node(torch.tensor([[1.0, 2.0]], dtype=torch.float64))
    assert gradient_error(lambda: (Node(x.data) * Node(x.data)).sum(), x) > 0.5
    assert x.data.tolist() == [[1.0, 2.0]]


def test_nudging_by_hand():
    x = Node(torch.tensor(1.0, dtype=torch.float64))
    cube = numerical_gradient(lambda: x * x * x, x, step=0.5)
    assert cube.item() == 3.25  # 1.5³ - 0.5³, and not the exact 3


def test_nudging_in_float32_is_refused():
    x = Node(torch.tensor(1.0))
    with pytest.raises(LessonsError, match=r"float32 have too few digits .*Use torch\.float64"):
        numerical_gradient(lambda: x * x, x)


def test_gradients_add_up_until_they_are_removed():
    x = Node(torch.tensor(3.0))
    for expected in (6.0, 12.0):
        (x * x).backward()
        assert x.grad == expected
    x.grad = None
    (x * x).backward()
    assert x.grad == 6.0


def test_a_node_passes_on_only_what_is_complete():
    # b = a² is used early and late: d + b, d = c + b, c = b · b.
    a = Node(torch.tensor(2.0, dtype=torch.float64))

    def function():
        b = a * a
        c = b * b
        d = c + b
        return d * b + c

    function().backward()
    assert a.grad.item() == 6 * 2**5 + 4 * 2**3 + 4 * 2**3  # a⁶ + a⁴ + a⁴
    assert gradient_error(function, a) < 1e-9


def test_the_graph_has_each_node_once_after_its_inputs():
    x = Node(torch.tensor(1.0))
    y = x
    for _ in range(30):  # 2³⁰ paths
        y = y + y
    order = y.graph()
    assert len(order) == len(set(order)) == 31
    assert (order[0], order[-1]) == (x, y)
    place = {node: number for number, node in enumerate(order)}
    assert all(place[source] < place[node] for node in order for source, _ in node.inputs)
    y.backward()
    assert x.grad.item() == 2**30


def test_a_long_chain_needs_no_deep_recursion():
    x = Node(torch.tensor(1.0))
    y = x
    for _ in range(5000):
        y = y + 1.0
    y.backward()
    assert (y.data.item(), x.grad.item()) == (5001.0, 1.0)


def test_gradients_share_no_memory():
    a, b = Node(torch.ones(2)), Node(torch.ones(2))
    (a + b).backward(torch.ones(2))
    a.grad.mul_(5)
    assert b.grad.tolist() == [1.0, 1.0]


def test_only_leaves_keep_a_gradient():
    x = Node(torch.ones(2))
    y = x.exp()
    y.sum().backward()
    assert y.grad is None
    torch.testing.assert_close(x.grad, torch.full((2,), math.e))


def test_several_numbers_need_their_gradient():
    with pytest.raises(LessonsError, match="backward from 6 numbers needs their gradient"):
        Node(torch.ones(2, 3)).exp().backward()


def test_a_vector_is_no_factor():
    vector, matrix = Node(torch.ones(2)), Node(torch.ones(2, 2))
    for factors in ((vector, matrix), (matrix, vector)):
        with pytest.raises(LessonsError, match="a factor is not a matrix"):
            factors[0] @ factors[1]


@pytest.mark.parametrize("target", [-100, -1, 4])
def test_a_target_outside_the_vocabulary_is_refused(target):
    with pytest.raises(LessonsError, match="a target is not in the vocabulary"):
        Node(torch.zeros(2, 4)).cross_entropy(torch.tensor([0, target]))


def test_pytorch_keeps_no_record():
    parameter = torch.ones(2, requires_grad=True)
    node = Node(parameter)
    assert not node.exp().data.requires_grad
    assert node.data.data_ptr() == parameter.data_ptr()  # the model's own memory


def test_large_logits_do_no_harm():
    logits = Node(torch.tensor([[0.0, 1000.0], [-1000.0, 0.0]], dtype=torch.float64))
    loss = logits.cross_entropy(torch.tensor([0, 1]))
    loss.backward()
    assert loss.data.item() == 500.0
    assert logits.grad.tolist() == [[-0.5, 0.5], [0.0, 0.0]]
    assert Node(torch.tensor([1000.0, 0.0])).log_softmax().data.tolist() == [0.0, -1000.0]


def test_a_checkpoint_keeps_only_its_input_and_gives_the_same_gradients():
    generator = torch.Generator().manual_seed(0)
    x, w = (Node(torch.randn(3, 3, generator=generator, dtype=torch.float64)) for _ in range(2))
    calls = []

    def layer(x):
        calls.append(1)
        return (x @ w).sigmoid() @ w + x

    found = []
    for run in (lambda function, x: function(x), checkpoint):
        x.grad = w.grad = None
        result = run(layer, run(layer, x))
        n_nodes = len(result.graph())
        (result * result).sum().backward()
        found.append((n_nodes, result.data, x.grad, w.grad))
    plain, again = found
    assert (plain[0], again[0], len(calls)) == (10, 3, 2 + 4)
    for expected, got in zip(plain[1:], again[1:], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-14, atol=1e-14)
