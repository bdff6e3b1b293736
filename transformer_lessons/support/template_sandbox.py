"""Runs a chat template: a small program in the language Jinja, which comes with a model.

A template is the only thing in a model's files that is executed, so it gets as little as possible.
Jinja's sandbox keeps it from Python's insides and from changing what it is given, and nothing in it
opens a file. What Jinja doesn't limit is work: a loop in a loop, a text that doubles. So here
everything has a price, and a template may spend `MOST_WORK`:

    a round of a loop, a call of a macro    30 for each part of the program that is in it
    a value that is made or looked at       32, and 1 for each character; so each value in a list
    a method of a text, a filter, a * b     the product of its two largest arguments

The product bounds what `replace`, `join`, `find` and the like can take, and is charged before they
run; what could take more (`format`, `sum`, powers) is left out. All of it is spent
in some seconds and less than 500 MB. A conversation of 200 turns takes some hundredths.
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
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MOST_WORK, PER_PART, PER_VALUE = 10**8, 30, 32
LARGEST = 2**20  # the most that one value, or the text at the end, may weigh
LARGEST_INTEGER = 2**12  # bits
FILTERS = """abs capitalize count d default dictsort e escape first float int items join last length
    list lower map max min reject rejectattr replace reverse safe select selectattr sort string trim
    unique upper"""
METHODS = """capitalize count endswith find get index isalnum isalpha isdigit isspace items join
    keys lower lstrip partition removeprefix removesuffix replace rfind rpartition rsplit rstrip
    split splitlines startswith strip title upper values"""


def render_template(template: str, variables: dict[str, Any]) -> str:
    """The text that `template` makes of `variables`, with the conventions of transformers.

    What goes wrong comes as exceptions of Jinja's and Python's, too much work as `SecurityError`.

    >>> render_template("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}",
    ...                 {"messages": [{"role": "user", "content": "Hello"}]})
    '<user>Hello'
    """
    sandbox = _Sandbox()
    return sandbox.weighed("".join(sandbox.from_string(template).generate(**variables)))


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
        self.left = MOST_WORK
        filters: dict[str, Any] = {name: self.filters[name] for name in FILTERS.split()}
        filters["tojson"] = _to_json
        self.filters = {name: self.charged(function) for name, function in filters.items()}
        self.tests = {name: self.charged(test) for name, test in self.tests.items()}
        self.globals = {"range": self.globals["range"], "dict": dict, "namespace": _Namespace}
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = lambda form: datetime.now().strftime(form[:100])

    def _parse(self, *args: Any) -> nodes.Template:
        return _Pricing().visit(super()._parse(*args)).set_environment(self)

    def pay(self, price: int) -> None:
        self.left -= price
        if self.left < 0:
            raise SecurityError("it takes too much work")

    def each(self, values: Iterable, price: int) -> Iterator:
        """The values one by one, each paid for."""
        for value in values:
            self.pay(price)
            yield value

    def weighed(self, value: Any) -> Any:
        """The value, paid for; where it makes others one by one, a list of them."""
        if isinstance(value, Iterator) and not isinstance(value, LoopContext):
            value = list(self.each(value, PER_PART))
        self.pay(_weight(value))
        return value

    def joined(self, *values: Any) -> str:
        return self.weighed("".join(map(str, self.weighed(values))))

    def charged(self, function: Any) -> Any:
        """The function, its arguments and its result paid for."""

        @functools.wraps(function)  # with what Jinja has noted on it
        def charging(*args: Any, **kwargs: Any) -> Any:
            self.pay(_product([*args, *kwargs.values()]))
            return self.weighed(function(*args, **kwargs))

        return charging

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(function, "__self__", None)  # of a method
        if owner is self:  # put there by `_Pricing`
            return function(*args)
        given = [*args, *(v for k, v in kwargs.items() if k not in ("_loop_vars", "_block_vars"))]
        is_method = isinstance(owner, str | dict | list | tuple)
        self.pay(_product([owner, *given]) if is_method else _weight(given))
        return self.weighed(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" or (operator == "%" and not numbers):  # which formats a text
            raise SecurityError(f"{operator} is not for a template")
        product = operator == "*" and not numbers
        self.pay(_product([left, right]) if product else _weight([left, right]))
        return self.weighed(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> None:
        """Let `is_safe_attribute` decide on `str.format` too."""

    def is_safe_attribute(self, owner: Any, name: str, value: Any) -> bool:
        is_known = isinstance(owner, LoopContext | Namespace) or name in METHODS.split()
        return is_known and super().is_safe_attribute(owner, name, value)


class _Pricing(NodeTransformer):
    """Puts calls that charge into a program, where Jinja has no hook."""

    def generic_visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        price = nodes.Const(PER_PART * sum(1 for _ in node.find_all(nodes.Node)))
        super().generic_visit(node)
        match node:
            case nodes.For(recursive=True):
                raise SecurityError("recursive loops are not run")
            case nodes.For():
                node.iter = _call("each", node.iter, price)
            case nodes.Macro() | nodes.CallBlock() | nodes.Block():
                node.body.insert(0, nodes.ExprStmt(_call("pay", price)))
            case nodes.TemplateData():
                return nodes.Const(node.data)  # which is handed to `finalize`
            case nodes.Concat():
                return _call("joined", *node.nodes)
            case nodes.Compare() | nodes.Operand():
                node.expr = _call("weighed", node.expr)
            case nodes.Getitem(arg=nodes.Slice()):
                return _call("weighed", node)
            case nodes.Getitem():
                node.arg = _call("weighed", node.arg)
            case nodes.Dict() | nodes.List() | nodes.Tuple(ctx="load"):
                return _call("weighed", node)
        return node


def _call(name: str, *args: Any) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), list(args), [], None, None)


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
        is_large = isinstance(value, int) and value.bit_length() > LARGEST_INTEGER
        if weight > LARGEST or is_large:
            raise SecurityError("a value is too large")
    return weight


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
