"""`generate` and `chat` with --speculate: the same texts, counts that add up, and bad input."""

import re
from io import StringIO

import pytest

from transformer_lessons.cli.main import main
from transformer_lessons.cli.models import Speculation, check_same_tokens
from transformer_lessons.config import ModelConfig
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.generation.speculative import DraftModel
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.training.checkpoint import save_checkpoint
from transformer_lessons.weights.shipped import load_shipped

PROMPT = "class Point:\n    def __init__(self, x, y):\n"
REPORT = re.compile(r"(\d+) passes, kept (\d+) of (\d+) guesses")
GREEDY = ("--preset", "greedy", "--max-new-tokens", "40")


def counts(text):
    """Passes, guesses that were kept, guesses."""
    return tuple(map(int, REPORT.search(" ".join(text.split())).groups()))


@pytest.mark.parametrize("draft", ["lookup", "python-small"])
def test_generate_writes_the_same(run_here, tmp_path, draft):  # SPEC G10
    options = ("generate", "--prompt", PROMPT, *GREEDY)
    plain = run_here(*options, cwd=tmp_path)
    done = run_here(*options, "--speculate", draft, "--guesses", 6, cwd=tmp_path)
    assert (done.returncode, done.stdout, plain.stderr) == (0, plain.stdout, "")
    n_passes, n_kept, n_guesses = counts(done.stderr)
    assert n_passes + n_kept == 40
    assert 0 < n_kept <= n_guesses
    assert draft == "lookup" or n_kept == n_guesses == 33  # 5 passes with 6 guesses, one with 3


def test_generate_writes_many_the_same(run_here, tmp_path):
    """At temperature 1 other random numbers are drawn, but each text has a seed of its own."""
    options = ("generate", "--prompt", PROMPT, "--n-samples", 3, "--json", "--speculate", "lookup")
    whole = run_here(*options, *GREEDY, cwd=tmp_path).stdout.splitlines()
    assert len(set(whole)) == 1
    warm = (*options, "--temperature", 1, "--max-new-tokens", 10)
    three = run_here(*warm, "--seed", 5, cwd=tmp_path).stdout.splitlines()
    assert len(set(three)) == 3
    assert run_here(*warm, "--seed", 6, cwd=tmp_path).stdout.splitlines()[:2] == three[1:]


def test_chat_shows_what_was_kept(monkeypatch, capsys):  # SPEC G10
    def answer(*options):
        monkeypatch.setattr("sys.stdin", StringIO("def f(x):\nquit\n"))
        assert main(["chat", *GREEDY, *options]) == 0
        return capsys.readouterr().out

    plain, speculated = answer(), answer("--speculate", "lookup")
    assert plain.split("[read")[0] == speculated.split("[read")[0]
    n_passes, n_kept, _ = counts(speculated.split("[read")[1])
    assert n_passes + n_kept == 40
    assert not REPORT.search(plain)


def test_the_counts_begin_anew_with_each_report():
    model, tokenizer = load_shipped()
    speculation = Speculation(DraftModel(model), 4)
    prompt = tokenizer.encode_ordinary(PROMPT)
    for _ in range(2):
        tokens = list(speculation(model, prompt, 11, Sampler(temperature=0), 0, ()))
        assert len(tokens) == 11
        assert speculation.report() == "3 passes, kept 8 of 8 guesses"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["lookup", "--guesses", "0"], "guesses = 0"),
        (["lookup", "--guesses", "256"], "the model sees 256 tokens"),
        (["lookup", "--compile"], "--compile"),
        (["lookup", "--probabilities"], "--probabilities"),
        (["nowhere"], "nowhere"),
        (["bytes"], "another tokenizer"),
    ],
)
def test_bad_input_is_named_before_anything_is_written(
    run_here, tmp_path, random_model, options, words
):
    config = ModelConfig(256, context_length=16, d_model=8, n_layers=1, n_heads=2, d_ff=8)
    save_checkpoint(tmp_path / "bytes", 1, random_model(config).float())
    ByteTokenizer().save(tmp_path / "bytes/tokenizer.json")
    done = run_here("generate", "--prompt", "def", "--speculate", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


class Reversed(ByteTokenizer):
    def decode_bytes(self, ids):
        return bytes(255 - id for id in ids)


def test_tokenizers_of_the_same_size_can_differ():
    check_same_tokens(ByteTokenizer(), ByteTokenizer(), 256)
    with pytest.raises(LessonsError, match="another tokenizer"):
        check_same_tokens(ByteTokenizer(), Reversed(), 256)
