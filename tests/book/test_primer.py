"""What the primer shows at the prompt is what Python answers."""

import doctest
from pathlib import Path

PRIMER = Path(__file__).resolve().parents[2] / "book" / "primer.md"


def test_the_examples_of_the_primer():
    text = PRIMER.read_text(encoding="utf-8").replace("```", "")  # a fence would count as output
    examples = doctest.DocTestParser().get_doctest(text, {}, PRIMER.name, str(PRIMER), 0)
    said: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert results.attempted > 20
    assert results.failed == 0, "".join(said)
