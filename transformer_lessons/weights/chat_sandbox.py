"""Runs a chat template: a small program in the language Jinja, which comes with a model.

A template is the only thing in a model's files that is executed, so it gets as little as possible.
Jinja's sandbox keeps it from Python's insides and from changing what it is given; it can't open
files. It can still loop for ever or fill the memory, so it has a process of its own: this file,
run as a script, reads {"template", "variables"} from standard input and answers {"text"} or
{"error"}. `chat_template.render_chat` starts it and stops it.

What this can't do: the process has the rights of the one that starts it. A hole in Jinja's sandbox
(there have been some; the version matters) would be a hole here.
"""

import json
import sys
from datetime import datetime
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY, SECONDS = 2**29, 5  # the most that a template may use
LARGEST_TEXT = 2**20  # characters of the result


class Generation(Extension):
    """{% generation %} … {% endgeneration %}: marks what the model says; the text is the same."""

    tags = {"generation"}  # noqa: RUF012, Jinja asks for a set

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def render(template: str, variables: dict[str, Any]) -> str:
    """The text that `template` makes of `variables`, with the conventions of transformers.

    >>> render("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}",
    ...        {"messages": [{"role": "user", "content": "Hello"}]})
    '<user>Hello'
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    return environment.from_string(template).render(**variables)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is; Jinja's own filter writes < as \\u003c, for web pages."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def raise_exception(message: str) -> None:
    """A template's way to refuse messages it can't render."""
    raise jinja2.TemplateError(message)


def limit_resources() -> None:
    """Bound this process's memory, processor time and files (on Windows there is no such means)."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main() -> None:
    """Answer one request; whatever goes wrong is an answer too."""
    limit_resources()
    request = json.load(sys.stdin)
    try:
        text = render(request["template"], request["variables"])
        if len(text) > LARGEST_TEXT:
            raise ValueError(f"the text has over {LARGEST_TEXT:,} characters")
        answer = {"text": text}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"[:500]}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
