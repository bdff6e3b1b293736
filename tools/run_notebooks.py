"""Write the listings of the notebooks, execute them in place, and print what each one takes.

    python tools/run_notebooks.py                         every notebook
    python tools/run_notebooks.py notebooks/01_….ipynb    some of them

A notebook that fails stays as it was.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from execute import ExecutionFailed, execute_apart
from listings import write_listings
from notebook_files import ROOT, notebook_paths


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write and execute notebooks of the repository at `root`; 1 when one of them fails."""
    parser = argparse.ArgumentParser(description="Write listings and execute notebooks in place.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: every notebook")
    paths = parser.parse_args(arguments).notebooks or notebook_paths(root)
    write_listings(root, paths)
    n_failed = 0
    for path in paths:
        before = path.read_bytes()
        try:
            cost = execute_apart(path, path)
        except ExecutionFailed as error:
            print(f"{path.name}: FAILED\n{error}")
            n_failed += 1
            continue
        state = "unchanged" if path.read_bytes() == before else "written"
        memory = cost.peak_bytes / 1e6
        print(f"{path.name:<40}{cost.seconds:>7.1f} s {memory:>7.0f} MB   {state}", flush=True)
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
