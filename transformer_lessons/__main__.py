"""`python -m transformer_lessons COMMAND …`; see `transformer_lessons.cli`."""

import sys

from transformer_lessons.cli.main import main


def run() -> int:
    """What the console script `transformer-lessons` calls: the command line, and its exit code."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run())
