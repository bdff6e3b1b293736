"""Measurements of this package beside other programs on the same work; `make bench` runs them.

    worker.py    one contestant in a process of its own, which does the work whenever told to
    contest.py   the contestants take turns, round after round
    memory.py    how much memory a process and its children take
    summary.py   medians, ratios within a round, and how work grows with length
    machine.py   the machine and the versions, with its speed in matrix products and in reading
    page.py      tables, and their places in book/benchmarks.md
    results.py   what each kind of machine came to, kept side by side
    command.py   which sections to measure, and whether to write them
    bpe*.py      byte-pair encoding
    training*.py the training step
    decoding*.py continuing texts, with a cache and without
    growth*.py   how costs grow with tokens, bytes and parameters
    models.py    the same model, with the same weights, as each program has it

`NAME.py` says what each contestant does, `NAME_run.py` who is measured against whom. A new
benchmark adds modules of these two kinds, and uses the others as they are.
"""
