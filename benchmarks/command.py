"""The command of a benchmark: which of its sections to measure, and whether to write them."""

import argparse
from collections.abc import Callable, Mapping, Sequence

from benchmarks.machine import machine_kind
from benchmarks.page import write_section
from benchmarks.results import keep_result


def measure_sections(
    what: str,
    sections: Callable[[bool], Mapping[str, Callable[[], str]]],
    arguments: Sequence[str] | None,
) -> None:
    """Measure the sections asked for, and write each into the page as soon as it is there.

    What other kinds of machines came to stays beside it.

    `sections(tiny)` names them, and what measures each; tiny ones are printed and not written.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("only", nargs="*", help="names of sections; all, if there are none")
    parser.add_argument("--tiny", action="store_true", help="very little work; nothing is written")
    options = parser.parse_args(arguments)
    found = sections(options.tiny)
    if unknown := set(options.only) - found.keys():
        parser.error(f"no section {min(unknown)}; there are {', '.join(found)}")
    for name in options.only or found:
        content = found[name]()
        print(f"\n{name}\n\n{content}", flush=True)
        if not options.tiny:
            write_section(name, keep_result(name, content, machine_kind()))
