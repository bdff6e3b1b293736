"""`python -m transformer_lessons COMMAND …`; see `transformer_lessons.cli`."""

import sys

from transformer_lessons.cli.main import main

sys.exit(main(sys.argv[1:]))
