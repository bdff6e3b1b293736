"""Tensors that remember what they were computed from, and gradients by going back. Lesson 11.

Sources: Rumelhart et al. 1986, "Learning Representations by Back-propagating Errors"; Baydin et
al. 2018, "Automatic Differentiation in Machine Learning: a Survey".
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError

PullBack = Callable[[Tensor], Tensor]  # gradient of a result -> gradient of one of its inputs


class Node:
    """A tensor `data`, and the `inputs` it was computed from, each with its `PullBack`.

    A node without inputs is a leaf; `backward` leaves gradients in the `grad` of the leaves.
    PyTorch's own autograd sees nothing of this. `sum` and `mean` keep the dimension they reduce.

    >>> x = Node(torch.tensor([1.0, 2.0]))
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    def __init__(self, data: Tensor, *inputs: tuple["Node", PullBack]) -> None:
        self.data, self.inputs = data.detach(), inputs
        self.grad: Tensor | None = None

    def graph(self) -> list["Node"]:
        """Every node that this one was computed from, each after its inputs; it comes last."""
        order, seen, stack = [], set(), [(self, False)]
        while stack:
            node, inputs_are_in_order = stack.pop()
            if inputs_are_in_order:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack += [(node, True), *((source, False) for source, _ in node.inputs)]
        return order

    def backward(self, gradient: Tensor | None = None) -> None:
        """Add the gradient of this number to the `grad` of each leaf; several need a `gradient`."""
        if gradient is None and self.data.numel() != 1:
            what = f"backward from {self.data.numel()} numbers needs their gradient"
            raise LessonsError(what, where="backward", remedy="Or take their sum or mean first.")
        gradients = {self: torch.ones_like(self.data) if gradient is None else gradient}
        for node in reversed(self.graph()):
            total = gradients.pop(node)  # complete: all that was computed from the node is done
            if not node.inputs:
                node.grad = total.clone() if node.grad is None else node.grad + total
            for source, pull_back in node.inputs:
                part = pull_back(total).sum_to_size(source.data.shape)  # undoes broadcasting
                gradients[source] = gradients[source] + part if source in gradients else part

    def __add__(self, other: Any) -> "Node":
        other = _node(other, self)
        return Node(self.data + other.data, (self, lambda g: g), (other, lambda g: g))

    def __mul__(self, other: Any) -> "Node":
        a, b = self, _node(other, self)
        return Node(a.data * b.data, (a, lambda g: g * b.data), (b, lambda g: g * a.data))

    __radd__, __rmul__ = __add__, __mul__

    def __matmul__(self, other: "Node") -> "Node":
        a, b = self, other
        if min(a.data.ndim, b.data.ndim) < 2:
            raise LessonsError("a factor is not a matrix", where="@", remedy="Reshape it first.")
        return Node(a.data @ b.data, (a, lambda g: g @ b.data.mT), (b, lambda g: a.data.mT @ g))

    def __getitem__(self, index: Any) -> "Node":
        def put_back(g: Tensor) -> Tensor:  # where an element was taken twice, both parts add up
            places = torch.arange(self.data.numel()).view(self.data.shape)[index]
            zeros = g.new_zeros(self.data.numel())
            return zeros.index_add(0, places.flatten(), g.flatten()).view(self.data.shape)

        return Node(self.data[index], (self, put_back))

    def reshape(self, *shape: int) -> "Node":
        return Node(self.data.reshape(shape), (self, lambda g: g.reshape(self.data.shape)))

    def transpose(self, dim0: int, dim1: int) -> "Node":
        return Node(self.data.transpose(dim0, dim1), (self, lambda g: g.transpose(dim0, dim1)))

    def sum(self, dim: int | None = None) -> "Node":
        total = self.data.sum() if dim is None else self.data.sum(dim, keepdim=True)
        return Node(total, (self, lambda g: g.expand_as(self.data)))

    def mean(self, dim: int | None = None) -> "Node":
        total = self.sum(dim)
        return total * (total.data.numel() / self.data.numel())

    def exp(self) -> "Node":
        y = self.data.exp()
        return Node(y, (self, lambda g: g * y))

    def log(self) -> "Node":
        return Node(self.data.log(), (self, lambda g: g / self.data))

    def rsqrt(self) -> "Node":
        y = self.data.rsqrt()
        return Node(y, (self, lambda g: g * -0.5 * y**3))

    def sigmoid(self) -> "Node":
        y = self.data.sigmoid()
        return Node(y, (self, lambda g: g * y * (1 - y)))

    def relu(self) -> "Node":
        return Node(self.data.relu(), (self, lambda g: g * (self.data > 0)))

    def gelu(self) -> "Node":  # GPT-2's, for (1 + tanh u) / 2 = sigmoid(2u)
        return self * (1.5957691216057308 * (self + 0.044715 * self * self * self)).sigmoid()

    def masked_fill(self, mask: Tensor, value: float) -> "Node":
        y = self.data.masked_fill(mask, value)
        return Node(y, (self, lambda g: g.masked_fill(mask, 0.0)))

    def log_softmax(self) -> "Node":
        shifted = self.data - self.data.amax(dim=-1, keepdim=True)  # no exp overflows
        y = shifted - shifted.exp().sum(dim=-1, keepdim=True).log()
        return Node(y, (self, lambda g: g - y.exp() * g.sum(dim=-1, keepdim=True)))

    def cross_entropy(self, targets: Tensor) -> "Node":
        """The mean of -log softmax(logits)[target]; its gradient is (softmax - one-hot) / n."""
        if not 0 <= int(targets.min()) <= int(targets.max()) < self.data.shape[-1]:
            raise LessonsError("a target is not in the vocabulary", where="cross_entropy")
        log_p = self.data.flatten(0, -2).log_softmax(dim=-1)
        chosen = torch.arange(len(log_p)), targets.flatten()

        def pull_back(g: Tensor) -> Tensor:
            p = log_p.exp()
            p[chosen] -= 1
            return (g * p / len(p)).view(self.data.shape)

        return Node(-log_p[chosen].mean(), (self, pull_back))


def _node(value: Any, like: Node) -> Node:
    return value if isinstance(value, Node) else Node(torch.as_tensor(value, dtype=like.data.dtype))


def checkpoint(function: Callable[[Node], Node], x: Node) -> Node:
    """function(x), of which nothing is kept but x: the backward pass computes it again.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
    """

    def pull_back(g: Tensor) -> Tensor:
        again = Node(x.data)
        function(again).backward(g)  # this adds to the `grad` of the function's parameters, too
        assert again.grad is not None
        return again.grad

    return Node(function(Node(x.data)).data, (x, pull_back))


def numerical_gradient(function: Callable[[], Node], leaf: Node, step: float = 1e-5) -> Tensor:
    """(f(x + step) - f(x - step)) / (2 step), for each number x of `leaf` in turn.

    `function` computes its result anew, from the leaves, each time it is called.
    """
    if leaf.data.dtype != torch.float64:
        what = f"differences in {leaf.data.dtype} have too few digits"
        raise LessonsError(what, where="numerical_gradient", remedy="Use torch.float64.")
    gradient = torch.zeros_like(leaf.data)
    for place in product(*map(range, leaf.data.shape)):
        x, results = leaf.data[place].item(), []
        for moved in (x + step, x - step):
            leaf.data[place] = moved
            results.append(function().data.item())
        leaf.data[place] = x
        gradient[place] = (results[0] - results[1]) / (2 * step)
    return gradient


def gradient_error(function: Callable[[], Node], *leaves: Node) -> float:
    """The largest |tape's gradient - numerical| / (1 + |numerical|) over all `leaves`.

    >>> x = Node(torch.tensor([1.0, 2.0], dtype=torch.float64))
    >>> gradient_error(lambda: (x * x).sum(), x) < 1e-9
    True
    """
    for leaf in leaves:
        leaf.grad = None
    function().backward()
    gradients = [torch.zeros_like(x.data) if x.grad is None else x.grad for x in leaves]
    expected = [numerical_gradient(function, leaf) for leaf in leaves]
    pairs = zip(gradients, expected, strict=True)
    return max(((a - b).abs() / (1 + b.abs())).max().item() for a, b in pairs)
