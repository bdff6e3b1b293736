"""`tokenizer`: learn a vocabulary, and turn text into token files."""

from pathlib import Path

from transformer_lessons import cli
from transformer_lessons.cli.display import progress_line
from transformer_lessons.cli.documents import learn_tokenizer, read_source, told_warnings
from transformer_lessons.cli.options.data import Encode, TrainTokenizer
from transformer_lessons.data.token_files import open_tokens, tokenize_corpus
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import read_documents
from transformer_lessons.support.files import sha256
from transformer_lessons.tokenizers import BPETokenizer, Tokenizer, fingerprint, load_tokenizer

MADE_OF = ("tokenizer_sha256", "source_sha256", "separator")  # of the facts of a token file


def run(options: TrainTokenizer | Encode) -> int:
    """Train or encode; returns the exit code."""
    if isinstance(options, Encode):
        encode(options, cli.PlainConsole())
    else:
        train(options, cli.PlainConsole())
    return 0


def train(options: TrainTokenizer, console: cli.PlainConsole) -> None:
    """Learn merges and write the tokenizer."""
    if bool(options.texts) == options.corpus:
        raise LessonsError("give either files to learn from or --corpus")
    check_start(options.out)
    documents = read_source(None) if options.corpus else read_documents(options.texts)
    choices = options.special_tokens, options.pattern, options.n_workers
    with progress_line(console) as show:
        tokenizer = learn_tokenizer(documents, options.vocab_size, show, *choices)
    tokenizer.save(options.out)
    wanted = "" if tokenizer.n_vocab == options.vocab_size else ": no pair was left to join"
    rows = {"vocabulary": f"{tokenizer.n_vocab:,} of {options.vocab_size:,}{wanted}"}
    console.print_rows("after training", facts_of(tokenizer) | rows)
    console.print(f"Saved: {options.out}", soft_wrap=True)


def encode(options: Encode, console: cli.PlainConsole) -> None:
    """Write the token file, unless it is there."""
    tokenizer, source = load_tokenizer(options.tokenizer), options.text
    out, separator = options.out or source.with_suffix(".npy"), options.separator
    facts, done = token_facts(out) or {}, "There already, of the same text and tokenizer"
    made_of = [fingerprint(tokenizer), sha256(source), separator or ""] if facts else []
    if not facts or made_of != [facts[name] for name in MADE_OF]:
        check_start(out)
        with progress_line(console) as show, told_warnings(show):
            tokenize_corpus(
                source, tokenizer, out, separator, lambda n, _: show(f"{n / 1e6:.1f} MB encoded")
            )
        facts, done = token_facts(out) or {}, "Saved"
    console.print_rows("token file", facts)
    console.print(f"{done}: {out}", soft_wrap=True)


def token_facts(path: Path) -> dict[str, str] | None:
    """What a token file says about itself; None for a file that isn't one."""
    if path.suffix != ".npy" or not path.is_file():
        return None
    facts = open_tokens(path).facts
    rows = {name: str(value) for name, value in facts.items()}
    return rows | {"bytes per token": f"{facts['n_bytes'] / max(facts['n_tokens'], 1):.2f}"}


def facts_of(tokenizer: Tokenizer) -> dict[str, str]:
    """What a tokenizer is made of."""
    facts = {"vocabulary": f"{tokenizer.n_vocab:,}"}
    if isinstance(tokenizer, BPETokenizer):
        facts |= {"merges": f"{len(tokenizer.merges):,}", "pattern": tokenizer.pattern}
    special = [f"{text} {id}" for text, id in tokenizer.special_tokens.items()]
    sha256 = f"{fingerprint(tokenizer)[:16]}…"
    return facts | {"special tokens": ", ".join(special) or "none", "SHA-256": sha256}


def check_start(out: Path) -> None:
    """Raise `LessonsError` now, not after all the work, if `out` can't be written or is taken."""
    if out.exists():
        remedy = "Choose another --out, or remove it."
        raise LessonsError("there is a file here already", where=str(out), remedy=remedy)
    if not out.parent.is_dir():
        raise LessonsError("no such folder", where=str(out.parent), remedy="Make it first.")
