"""Runs a chat template: a small program in the language Jinja, which comes with a model.

Jinja's sandbox keeps a template from Python's insides and from changing what it is given, and
nothing in it opens a file. What Jinja doesn't limit is work, so here three things are added:

- a clock, read at each line that the compiled template runs, ends loops and recursion;
- filters, methods and operators are on short lists, and pay, before they run, for the most that
  they could make or search: the sizes of their two largest arguments, multiplied;
- every new value pays for its size, and one over `LARGEST` ends the rendering.
"""

import functools
import heapq
import json
import math
import sys
import time
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MOST_SECONDS, MOST_WORK = 2.0, 10**8  # of the processor; characters, and 32 for each value
LARGEST, LARGEST_INTEGER = 2**20, 2**12  # what one value, or the whole text, may weigh; bits
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
    tree = _Weighing().visit(sandbox.parse(template)).set_environment(sandbox)
    compiled = sandbox.from_string(tree)
    with _time_limit():
        text = "".join(compiled.generate(**variables))
    return sandbox.weighed(text)


@contextmanager
def _time_limit() -> Iterator[None]:
    end, before = time.thread_time() + MOST_SECONDS, sys.gettrace()

    def look(frame: FrameType, event: str, argument: Any) -> Any:
        if time.thread_time() > end:
            raise SecurityError("it takes too much work")
        return look if frame.f_code.co_filename == "<template>" else None

    sys.settrace(look)
    try:
        yield
    finally:
        sys.settrace(before)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which values are paid for; for one rendering."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
            optimized=False,  # or constants would be computed while compiling
            finalize=jinja2.pass_context(lambda context, value: self.weighed(value)),
        )
        self.left = MOST_WORK
        filters: dict[str, Any] = {name: self.filters[name] for name in FILTERS.split()}
        filters |= {"tojson": _to_json, "weighed": lambda value: value}
        filters |= {"concatenated": lambda values: "".join(map(str, values))}
        self.filters = {name: self.charged(function) for name, function in filters.items()}
        self.globals = {"range": self.globals["range"], "dict": dict, "namespace": _Namespace}
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}

    def pay(self, price: int) -> None:
        self.left -= price
        if self.left < 0:
            raise SecurityError("it takes too much work")

    def weighed(self, value: Any) -> Any:
        """The value, paid for; where it makes others one by one, a list of them."""
        if isinstance(value, Iterator) and not isinstance(value, LoopContext):
            value = list(value)
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


class _Weighing(NodeTransformer):
    """Has values paid for that Jinja makes without a hook: lists, slices, a ~ b, plain text."""

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        return nodes.Const(node.data)  # which is handed to `finalize`

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes), "concatenated")

    def visit_List(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        is_target = getattr(node, "ctx", "load") == "store"
        is_item = isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice)
        return node if is_target or is_item else _filtered(node, "weighed")

    visit_Dict = visit_Tuple = visit_Getitem = visit_List


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None)


def _weight(value: Any) -> int:
    """The size of a value and of all that is in it; too large a value raises."""
    weight, waiting = 0, [value]
    while waiting:
        value = waiting.pop()
        weight += 32
        if isinstance(value, str):
            weight += len(value)
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple | range | KeysView | ValuesView | ItemsView):
            waiting += value
        if weight > LARGEST or _bits(value) > LARGEST_INTEGER:
            raise SecurityError("a value is too large")
    return weight


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 1


def _product(values: list) -> int:
    """The weights of all values, and how large the two largest are, multiplied."""
    sizes = [abs(v) if isinstance(v, int) else _weight(v) - 32 for v in values]
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
