"""`tokenizer train | encode`, and `inspect` for both: from text to a token file."""

import json
import os
import subprocess
import sys

import pytest
from rich.console import Console

from transformer_lessons.cli import PlainConsole, display
from transformer_lessons.cli import main as cli
from transformer_lessons.cli import tokenizer as command
from transformer_lessons.data.token_files import open_tokens
from transformer_lessons.errors import LessonsError
from transformer_lessons.support.corpus import python_documentation
from transformer_lessons.tokenizers.bpe import BPETokenizer

TEXT = "The cat sat on the mat. The rat sat on the hat, and that was that. "
DOCUMENTS = [TEXT, "né😀", "a <|endoftext|> in a text"]
END = "<|endoftext|>"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder: texts under a name that is hard on programs, and a tokenizer."""
    folder = tmp_path / "a folder with ümlauts [b]"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")
    lines = [json.dumps({"text": text, "source": "here"}) + "\n" for text in DOCUMENTS]
    (folder / "documents.jsonl").write_text("".join(lines))
    (folder / "text.txt").write_text(TEXT * 20)
    BPETokenizer.train(TEXT, 280, special_tokens=[END]).save("made.json")
    return folder


def run(capsys, *arguments):
    """Exit code, stdout and stderr of a command."""
    try:
        command = [] if arguments[:1] == ("inspect",) else ["tokenizer"]
        code = cli.main([*command, *map(str, arguments)])
    except SystemExit as stopped:  # help, or an option that is unknown
        code = stopped.code
    return code, *capsys.readouterr()


def values(shown):
    """The rows of the tables that a command printed."""
    rows = [line.strip().split("  ", 1) for line in shown.splitlines()]
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


def test_in_a_process_of_its_own_nothing_is_warned_about(folder):  # SPEC A8
    start = [sys.executable, "-W", "error", "-m", "transformer_lessons", "tokenizer"]
    for line in (
        ["train", "documents.jsonl", "text.txt", "--vocab-size", "270", "--n-workers", "2"],
        ["encode", "tokenizer.json", "documents.jsonl"],
    ):
        options = {"capture_output": True, "encoding": "utf-8", "timeout": 120}
        done = subprocess.run(
            [*start, *line], env={**os.environ, "OMP_NUM_THREADS": "1"}, **options
        )
        assert (done.returncode, done.stderr) == (0, "")
    tokenizer = BPETokenizer.load("tokenizer.json")
    assert (tokenizer.n_vocab, tokenizer.special_tokens) == (270, {END: 269})
    ids = []
    for text in DOCUMENTS:
        ids += [*tokenizer.encode_ordinary(text), 269]
    assert open_tokens("documents.npy", tokenizer).ids.tolist() == ids


def test_train_learns_what_the_package_learns(capsys):  # SPEC A8
    code, shown, errors = run(capsys, "train", "text.txt", "--vocab-size", 275, "--out", "t.json")
    assert (code, errors) == (0, "")
    tokenizer = BPETokenizer.load("t.json")
    assert tokenizer.merges == BPETokenizer.train(TEXT * 20, 275, [END]).merges
    rows = values(shown)
    assert rows["vocabulary"] == "275 of 275"
    assert rows["merges"] == "18"
    assert rows["special tokens"] == f"{END} 274"
    assert "Saved: t.json" in shown


def test_train_keeps_documents_apart(capsys):
    lines = [json.dumps({"text": text}) for text in ("b a", "a b", "b a", "a b")]
    with open("apart.jsonl", "w") as file:
        file.write("\n".join(lines))
    for special in ([], ["<|x|>"], [END]):
        options = [
            "--special-tokens",
            *special,
            "--vocab-size",
            280,
            "--out",
            f"{len(special)}.json",
        ]
        assert run(capsys, "train", "apart.jsonl", *options)[0] == 0
        tokenizer = BPETokenizer.load(f"{len(special)}.json")
        assert list(tokenizer.special_tokens) == special
        os.remove(f"{len(special)}.json")
        assert b"aa" not in tokenizer.vocab.values()
        assert {b" a", b" b"} == {left + right for left, right in tokenizer.merges}


def test_train_says_when_no_pair_is_left(capsys):
    with open("small.txt", "w") as file:
        file.write("ab")
    code, shown, _ = run(capsys, "train", "small.txt", "--vocab-size", "300")
    assert code == 0
    assert values(shown)["vocabulary"] == "258 of 300: no pair was left to join"


def test_train_on_the_corpus(capsys):
    code, _, _ = run(capsys, "train", "--corpus", "--vocab-size", "260", "--pattern", "gpt2")
    assert code == 0
    tokenizer = BPETokenizer.load("tokenizer.json")
    assert tokenizer.pattern == "gpt2"
    text = python_documentation()
    assert tokenizer.merges == BPETokenizer.train(text, 260, [END], pattern="gpt2").merges


def test_encode_shows_what_it_wrote(capsys):  # SPEC S3
    code, shown, errors = run(capsys, "encode", "made.json", "documents.jsonl", "--out", "o.npy")
    assert (code, errors) == (0, "")
    tokens = open_tokens("o.npy", BPETokenizer.load("made.json"))
    n_bytes = sum(len(text.encode()) for text in DOCUMENTS)
    rows = values(shown)
    assert rows["n_documents"] == "3"
    assert rows["n_tokens"] == str(len(tokens.ids))
    assert rows["n_bytes"] == str(n_bytes)
    assert rows["bytes per token"] == f"{n_bytes / len(tokens.ids):.2f}"
    assert "Saved: o.npy" in shown
    assert values(run(capsys, "inspect", "o.npy")[1]).items() <= rows.items()


def test_encode_with_bytes(capsys):
    assert run(capsys, "encode", "bytes", "text.txt")[0] == 0
    assert bytes(open_tokens("text.npy").ids.tolist()) == (TEXT * 20).encode()


def test_gpt2_by_name(capsys):  # SPEC A1
    code, shown, errors = run(capsys, "inspect", "gpt2")
    if "can't fetch" in errors and not os.environ.get("CI"):
        pytest.skip(errors)
    assert code == 0
    assert values(shown)["vocabulary"] == "50,257"


def test_what_is_encoded_already_is_kept(capsys, folder):  # SPEC S3
    assert run(capsys, "encode", "made.json", "text.txt")[0] == 0
    before = os.stat("text.npy").st_mtime_ns
    code, shown, _ = run(capsys, "encode", "made.json", "text.txt")
    assert code == 0
    assert "There already, of the same text and tokenizer: text.npy" in shown
    assert os.stat("text.npy").st_mtime_ns == before
    content = (folder / "text.npy").read_bytes()
    taken = "error: there is a file here already (text.npy). Choose another --out, or remove it.\n"
    assert run(capsys, "encode", "bytes", "text.txt") == (2, "", taken)  # another tokenizer
    (folder / "text.txt").write_text(TEXT)
    assert run(capsys, "encode", "made.json", "text.txt") == (2, "", taken)  # another text
    assert (folder / "text.npy").read_bytes() == content
    (folder / "text.npy").write_bytes(content[:-1])
    code, _, errors = run(capsys, "encode", "made.json", "text.txt")  # a damaged one
    assert code == 2
    assert "can't read it" in errors


def test_inspect_shows_what_a_tokenizer_is_made_of(capsys):
    tokenizer = BPETokenizer.load("made.json")
    code, shown, _ = run(capsys, "inspect", "made.json")
    assert code == 0
    rows = values(shown)
    assert rows["vocabulary"] == str(tokenizer.n_vocab)
    assert rows["merges"] == str(len(tokenizer.merges))
    assert rows["special tokens"] == f"{END} {tokenizer.special_tokens[END]}"
    rows = values(run(capsys, "inspect", "bytes")[1])
    assert (rows["vocabulary"], rows["special tokens"]) == ("256", "none")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train", "give either files to learn from or --corpus"),
        ("train text.txt --corpus", "give either files to learn from or --corpus"),
        ("train no.txt", "no such file or folder (no.txt)"),
        ("train text.txt --vocab-size 256", "vocab_size = 256 can't hold 256 bytes and"),
        ("train text.txt --pattern gpt9", "unknown split pattern 'gpt9' (pattern). Known"),
        ("train text.txt --n-workers 0", "n_workers = 0 is not from 1 to 256 (--n-workers)"),
        ("train text.txt --out made.json", "there is a file here already (made.json). Choose"),
        ("train text.txt --out no/t.json", "no such folder (no). Make it first."),
        ("train made.json", "not a kind of file that is read (made.json)"),
        ("encode no.json text.txt", "can't read it: No such file or directory (no.json)"),
        ("encode made.json no.txt", "no such file or folder (no.txt)"),
        ("encode documents.jsonl text.txt", "not JSON: Extra data (documents.jsonl, line 2"),
        ("encode text.txt text.txt", "not JSON"),
        ("encode made.json made.json", "not a kind of file that is read (made.json)"),
        ("encode made.json bad.jsonl", 'no text: no string under the key "text" (bad.jsonl'),
        ("encode made.json bad.txt", "not UTF-8: byte 1 (bad.txt)"),
        ("encode made.json text.txt --out no/t", "no such folder (no). Make it first."),
    ],
)
def test_bad_input_ends_with_one_line_and_nothing_written(capsys, folder, line, message):  # SPEC S9
    (folder / "bad.jsonl").write_text('{"text": "a"}\n{"txt": "a"}\n')
    (folder / "bad.txt").write_bytes(b"a\xffb")
    (folder / "bad.json").write_text("{}")
    (folder / "empty.txt").write_text("")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, shown, errors = run(capsys, *line.split())
    assert (code, shown) == (2, "")
    assert errors.startswith(f"error: {message}")
    assert errors.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("line", ["", "learn", "export made.json", "encode"])
def test_unknown_choices_end_with_code_2(capsys, line):
    code, shown, errors = run(capsys, *line.split())
    assert (code, shown) == (2, "")
    assert errors


def test_help_names_both_and_their_options(capsys):
    code, shown, errors = run(capsys, "--help")
    assert (code, errors) == (0, "")
    for name in ("train", "encode"):
        assert f"• {name}" in shown
        code, details, _ = run(capsys, name, "--help")
        assert code == 0
        assert f"tokenizer {name} [-h]" in details
    assert cli.main(["--help"]) == 0
    assert "\n  tokenizer " in capsys.readouterr().out


def test_someone_who_watches_sees_how_far_it_is(monkeypatch, capsys):
    consoles = []

    class Terminal(PlainConsole):
        def __init__(self):
            Console.__init__(self, force_terminal=True, width=100, file=sys.stdout, markup=False)
            consoles.append(self)

    monkeypatch.setattr("transformer_lessons.cli.PlainConsole", Terminal)
    monkeypatch.setattr(display, "REFRESH", 0.0)
    _, shown, _ = run(capsys, "train", "text.txt", "--vocab-size", 270)
    assert len(consoles) == 1
    assert "merges learned" in shown
    _, shown, _ = run(capsys, "encode", "tokenizer.json", "documents.jsonl")
    assert "encoded" in shown


def test_an_interrupted_encode_leaves_nothing(monkeypatch, capsys, folder):
    before = sorted(path.name for path in folder.iterdir())

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(BPETokenizer, "encode_ordinary", interrupted)
    assert run(capsys, "encode", "made.json", "text.txt") == (130, "", "stopped\n")
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_full_disk_is_named(monkeypatch, capsys):
    def full(*_, **__):
        raise LessonsError("can't write it: No space left on device", where="text.npy")

    monkeypatch.setattr(command, "tokenize_corpus", full)
    expected = "error: can't write it: No space left on device (text.npy)\n"
    assert run(capsys, "encode", "made.json", "text.txt") == (2, "", expected)
