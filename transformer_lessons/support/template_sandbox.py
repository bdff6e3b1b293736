"""Runs a chat template: a small program in the language Jinja, which comes with a model.

A template is the only thing in a model's files that is executed, so it gets as little as possible.
Jinja's sandbox keeps it from Python's insides and from changing what it is given, and nothing in it
opens a file. What Jinja doesn't limit is work: a loop in a loop, a text that doubles. So here
everything has a price, and a template may spend `MOST_WORK`:

    a round of a loop, a call of a macro    30 for each part of the program that is in it
    a value that is made or looked at       32, and 1 for each character; so each value in a list
    a method of a text, a filter, a * b     the product of its two largest arguments

The product bounds what `replace`, `join`, `find`, `indent` and the like can take, and is charged
before they run; methods and filters that could take more (`format`, `sum`) are left out. All of it
is spent in some seconds and less than 500 MB. A conversation of 200 turns takes some hundredths.
"""

import functools
import heapq
import json
import math
from collections.abc import ItemsView, Iterable, Iterator, KeysView, ValuesView
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import BlockReference, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MOST_WORK, PER_PART, PER_VALUE = 10**8, 30, 32
LARGEST = 2**20  # the most that one value, or the text at the end, may weigh
LARGEST_INTEGER = 2**12  # bits
FILTERS = """abs capitalize count d default dictsort e escape first float groupby indent int items
    join last length list lower map max min reject rejectattr replace reverse safe select selectattr
    sort string trim unique upper"""
METHODS = {
    str: """capitalize count endswith find index isalnum isalpha isdigit isspace join lower lstrip
    partition removeprefix removesuffix replace rfind rpartition rsplit rstrip split splitlines
    startswith strip title upper""",
    dict: "get items keys values",
    list | tuple: "count index",
    LoopContext: """cycle changed depth depth0 first index index0 last length nextitem previtem
    revindex revindex0""",
}


def render_template(template: str, variables: dict[str, Any]) -> str:
    """The text that `template` makes of `variables`, with the conventions of transformers.

    What goes wrong comes as exceptions of Jinja's and Python's, too much work as `SecurityError`.

    >>> render_template("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}",
    ...                 {"messages": [{"role": "user", "content": "Hello"}]})
    '<user>Hello'
    """
    sandbox = _Sandbox()
    tree = _Pricing().visit(sandbox.parse(template))
    tree.set_environment(sandbox)
    repeated = tree.find_all((nodes.Macro, nodes.CallBlock, nodes.Block))
    sandbox.call_price = max(map(_price, repeated), default=0)
    return sandbox.weighed("".join(sandbox.from_string(tree).generate(**variables)))


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which everything has its price; for one rendering."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
            optimized=False,  # or constants would be computed before they have a price
            finalize=jinja2.pass_context(lambda context, value: self.weighed(value)),
        )
        self.left, self.call_price = MOST_WORK, 0
        filters: dict[str, Any] = {name: self.filters[name] for name in FILTERS.split()}
        filters |= {"tojson": _to_json, "weighed": lambda value: value}
        filters |= {"concatenated": lambda values: "".join(map(str, values))}
        self.filters = {name: self.charged(function) for name, function in filters.items()}
        self.filters["each"] = self.each
        self.tests = {name: self.charged(test) for name, test in self.tests.items()}
        self.globals = {"range": self.globals["range"], "dict": dict, "namespace": _Namespace}
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}

    def pay(self, price: int) -> None:
        self.left -= price
        if self.left < 0:
            raise SecurityError("it takes too much work")

    def each(self, values: Iterable, price: int = PER_PART) -> Iterator:
        """The values one by one, each paid for."""
        for value in values:
            self.pay(max(price, PER_PART))
            yield value

    def weighed(self, value: Any) -> Any:
        """The value, paid for; where it makes others one by one, a list of them."""
        if isinstance(value, Iterator) and not isinstance(value, LoopContext):
            value = list(self.each(value))
        self.pay(_weight(value))
        return value

    def charged(self, function: Any) -> Any:
        """The function, its arguments and its result paid for."""

        @functools.wraps(function)  # with what Jinja has noted on it
        def charging(*args: Any, **kwargs: Any) -> Any:
            self.pay(_product([*args, *kwargs.values()]))
            return self.weighed(function(*args, **kwargs))

        return charging

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        given = [*args, *(v for k, v in kwargs.items() if k not in ("_loop_vars", "_block_vars"))]
        owner = getattr(function, "__self__", None)  # of a method
        is_method = isinstance(owner, str | dict | list | tuple)
        self.pay(_product([owner, *given]) if is_method else _weight(given))
        self.pay(self.call_price if isinstance(function, Macro | BlockReference) else 0)
        return self.weighed(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "%" and not numbers:
            raise SecurityError("% formats a text; use + or ~")
        if operator == "**" and not (numbers and _bits(left) * abs(right) <= LARGEST_INTEGER):
            raise SecurityError("a power that is too large")
        is_product = operator == "*" and not numbers
        self.pay(_product([left, right]) if is_product else _weight([left, right]))
        return self.weighed(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> None:
        """Let `is_safe_attribute` decide on `str.format` too."""

    def is_safe_attribute(self, owner: Any, name: str, value: Any) -> bool:
        allowed = (names for kind, names in METHODS.items() if isinstance(owner, kind))
        is_allowed = isinstance(owner, Namespace) or name in next(allowed, "").split()
        return is_allowed and super().is_safe_attribute(owner, name, value)


class _Pricing(NodeTransformer):
    """Puts filters that charge into a program, where Jinja has no hook."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise SecurityError("recursive loops are not run")
        price = nodes.Const(_price(node))
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "each", price)
        return node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        return nodes.Const(node.data)  # which is handed to `finalize`

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes), "concatenated")

    def visit_Compare(self, node: nodes.Compare | nodes.Operand) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _filtered(node.expr, "weighed")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return _filtered(node, "weighed")
        node.arg = _filtered(node.arg, "weighed")
        return node

    def visit_List(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") == "store" else _filtered(node, "weighed")

    visit_Dict = visit_Tuple = visit_List
    visit_Operand = visit_Compare


def _filtered(node: Any, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None)


def _price(node: nodes.Node) -> int:
    """What it costs to run a part of a program once."""
    return PER_PART * sum(1 for _ in node.find_all(nodes.Node))


def _weight(value: Any) -> int:
    """What it costs to look at a value and all that is in it; too large a value raises."""
    weight, waiting = 0, [value]
    while waiting:
        value = waiting.pop()
        weight += PER_VALUE
        if isinstance(value, str):
            weight += len(value)
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple | KeysView | ValuesView | ItemsView):
            waiting += value
        elif isinstance(value, range):
            weight += PER_VALUE * len(value)
        if weight > LARGEST or _bits(value) > LARGEST_INTEGER:
            raise SecurityError("a value is too large")
    return weight


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 1


def _product(values: list) -> int:
    """The weights of all values, and how large the two largest are, multiplied."""
    sizes = [abs(v) if isinstance(v, int) else _weight(v) - PER_VALUE for v in values]
    return _weight(values) + math.prod(max(size, 1) for size in heapq.nlargest(2, sizes))


class _Namespace(Namespace):
    def __repr__(self) -> str:  # Jinja's shows what is in it, and what is in that
        return "<namespace>"


class _Generation(Extension):
    """{% generation %} … {% endgeneration %}: marks what the model says; the text is the same."""

    tags = {"generation"}  # noqa: RUF012, Jinja asks for a set

    def parse(self, parser: jinja2.parser.Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    """JSON as it is; Jinja's own filter writes < as \\u003c, for web pages."""
    if indent is not None and not 0 <= indent <= 8:
        raise SecurityError("tojson indents by 0 to 8")
    return json.dumps(value, indent=indent, **({"ensure_ascii": False} | options))


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)  # how a template refuses messages


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form[:100])
