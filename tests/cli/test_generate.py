"""`generate`: prompts from everywhere, many at once, JSON, stop strings, and bad input."""

import io
import json
import os
import subprocess
import sys

import pytest

from transformer_lessons.cli.generate import token_line
from transformer_lessons.cli.main import main
from transformer_lessons.cli.models import open_model, sampler_of
from transformer_lessons.cli.options import read_options
from transformer_lessons.cli.options.models import ModelOptions
from transformer_lessons.config import ModelConfig
from transformer_lessons.generation.generate import generate
from transformer_lessons.generation.sampling import SAMPLERS, Sampler
from transformer_lessons.model.linear import replace_linear
from transformer_lessons.tokenizers.bpe import BPETokenizer
from transformer_lessons.tokenizers.byte_tokenizer import ByteTokenizer
from transformer_lessons.training.checkpoint import save_checkpoint
from transformer_lessons.weights.quantize import Int4Linear, Int8Linear
from transformer_lessons.weights.shipped import load_shipped

COMMAND = [sys.executable, "-W", "error", "-m", "transformer_lessons", "generate"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command in this process, in a folder of its own: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def generate(*arguments, stdin=b""):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        code = main(["generate", *map(str, arguments)])
        return (code, *capsys.readouterr())

    return generate


@pytest.fixture
def random_bytes(tmp_path, random_model):
    """A checkpoint of a model of bytes that writes anything; a small change of weights shows."""
    config = ModelConfig(256, context_length=16, d_model=8, n_layers=1, n_heads=2, d_ff=8)
    model = random_model(config, size=3).float()
    save_checkpoint(tmp_path / "model", 1, model)
    ByteTokenizer().save(tmp_path / "model/tokenizer.json")
    return model


def as_objects(output):
    return [json.loads(line) for line in output.splitlines()]


def test_it_works_at_once_with_the_model_that_ships(run):  # SPEC F8
    model, tokenizer = load_shipped()
    prompt = tokenizer.encode_ordinary("def ")
    tokens = generate(model, [prompt], 12, Sampler(0.2))[0]
    code, output, errors = run("--prompt", "def ", "--max-new-tokens", 12)
    assert (code, output, errors) == (0, f"def {tokenizer.decode(tokens)}\n", "")


def test_prompts_in_a_file_are_continued_as_each_alone(run, tmp_path, monkeypatch):  # SPEC S6
    model, tokenizer = load_shipped()
    (tmp_path / "prompts.txt").write_bytes('def f(\r\n"class A:\\n    x"\nné = '.encode())
    options = ("--max-new-tokens", 8, "--seed", 5, "--json")
    monkeypatch.setattr("transformer_lessons.cli.generate.BATCH_SIZE", 2)
    code, output, _ = run("--prompts-file", "prompts.txt", *options)
    objects = as_objects(output)
    assert code == 0
    assert [o["prompt"] for o in objects] == ["def f(", "class A:\n    x", "né = "]
    for row, o in enumerate(objects):
        prompt = tokenizer.encode_ordinary(o["prompt"])
        assert o["tokens"] == generate(model, [prompt], 8, Sampler(0.2), seed=5 + row)[0]
        assert o["text"] == tokenizer.decode(o["tokens"])
        assert o["finish_reason"] == "length"
    monkeypatch.setattr("transformer_lessons.cli.generate.BATCH_SIZE", 16)
    assert run("--prompts-file", "prompts.txt", *options)[1] == output


def test_prompts_come_from_standard_input(run, random_bytes):
    options = ("model", "--max-new-tokens", 0, "--json")
    _, output, _ = run("--prompts-file", "-", *options, stdin=b'a b\n"\\"c\\""\n')
    assert [o["prompt"] for o in as_objects(output)] == ["a b", '"c"']


def test_several_samples_have_headings(run, random_bytes):  # SPEC S6
    options = ("model", "--prompt", "ab", "--temperature", 1, "--max-new-tokens", 5, "--seed", 3)
    expected = generate(random_bytes, [[97, 98]], 5, Sampler(), seed=3, n_samples=3)
    code, output, _ = run(*options, "--n-samples", 3)
    texts = [f"ab{bytes(tokens).decode(errors='replace')}" for tokens in expected]
    headings = [f"==> prompt 1, sample {number} <==" for number in (1, 2, 3)]
    shown = "".join(f"{h}\n{t}\n" for h, t in zip(headings, texts, strict=True))
    assert (code, output) == (0, shown)


def test_a_stop_string_ends_the_text_streamed_or_not(run):
    """ "):" is two tokens of some continuations and one of others."""
    options = ("--prompt", "def fib(", "--preset", "greedy", "--max-new-tokens", 30)
    whole = run(*options)[1].removesuffix("\n")
    stop = whole[15:19]
    assert stop in whole[8:]
    expected = whole[: whole.index(stop, 8)]
    assert run(*options, "--stop", "never", stop)[1] == f"{expected}\n"
    [o] = as_objects(run(*options, "--stop", stop, "--json")[1])
    assert (o["prompt"] + o["text"], o["finish_reason"]) == (expected, "stop_string")
    assert len(o["tokens"]) < 30


def test_a_stop_string_in_the_prompt_stops_nothing(run):
    options = ("--prompt", "def read_json(", "--temperature", 0, "--max-new-tokens", 5)
    assert run(*options, "--stop", "read_json")[1] == run(*options)[1]


def test_all_sampling_options_reach_the_sampler(run, random_bytes):
    changes = {
        "temperature": 1.5,
        "top_k": 20,
        "top_p": 0.9,
        "min_p": 0.01,
        "repetition_penalty": 1.3,
        "frequency_penalty": 0.2,
    }
    words = [w for name, value in changes.items() for w in (f"--{name.replace('_', '-')}", value)]
    [o] = as_objects(run("model", "--prompt", "ab", "--json", *words)[1])
    assert o["tokens"] == generate(random_bytes, [[97, 98]], 200, Sampler(**changes))[0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], Sampler(0.2)),
        (["--top-p", "0.5"], Sampler(0.2, top_p=0.5)),
        (["--temperature", "0"], Sampler(temperature=0)),
        (["--preset", "balanced"], SAMPLERS["balanced"]),
        (["--preset=varied", "--top-k", "3"], Sampler(top_k=3, min_p=0.05)),
    ],
)
def test_options_change_a_preset(arguments, expected):  # SPEC E4
    options = read_options("generate", ["--prompt", "a", *arguments])
    assert sampler_of(options, Sampler(0.2)) == expected


def test_compiled_is_the_same(run, random_bytes, monkeypatch):
    compiled = []
    monkeypatch.setattr("torch.compile", lambda step, **how: compiled.append(step) or step)
    options = ("model", "--prompt", "ab", "--max-new-tokens", 5)
    assert run(*options, "--compile") == run(*options)
    assert len(compiled) == 1


def test_a_model_that_can_not_be_compiled_is_explained(run, random_bytes, monkeypatch):
    from torch._dynamo.exc import InternalTorchDynamoError

    def broken(*arguments):
        raise InternalTorchDynamoError("no compiler\nand more")

    monkeypatch.setattr("torch.compile", lambda step, **how: broken)
    code, _, errors = run("model", "--prompt", "ab", "--compile")
    assert code == 2
    assert errors == "error: the model can't be compiled here: no compiler. Leave --compile away.\n"


def test_weights_rounded_to_int8(run, random_bytes):
    """What is written is what the model writes whose linear layers are rounded, and no other."""
    options = ("model", "--prompt", "ab", "--max-new-tokens", 400, "--temperature", 1, "--json")
    (_, whole, _), (_, output, _) = run(*options), run(*options, "--bits", "8")
    assert whole != output
    replace_linear(random_bytes, Int8Linear)
    expected = generate(random_bytes, [list(b"ab")], 400, Sampler(), seed=0)[0]
    assert as_objects(output)[0]["tokens"] == expected


def test_weights_rounded_to_4_bits_keep_a_head_of_8():
    model = open_model(ModelOptions(bits=4), Sampler()).model
    assert type(model.head) is Int8Linear
    kinds = [type(m) for m in model.blocks.modules() if "Linear" in type(m).__name__]
    assert kinds == 5 * model.config.n_layers * [Int4Linear]


def test_weights_that_no_group_of_4_bits_fits_are_refused(run, random_bytes):
    code, _, errors = run("model", "--prompt", "ab", "--bits", 4)
    assert code == 2
    assert "groups of 32 don't divide a row of 8 weights" in errors


def test_a_compiled_int8_model_from_the_command_line(random_bytes, tmp_path):
    """In a process of its own, with the real compiler, where a warning is an error."""
    options = ["model", "--prompt", "ab", "--max-new-tokens", "6", "--bits", "8"]
    made = [
        subprocess.run(
            [*COMMAND, *options, *more],
            env=ENVIRONMENT,
            cwd=tmp_path,
            check=True,
            capture_output=True,
        ).stdout
        for more in ([], ["--compile"])
    ]
    assert made[0] == made[1] != b""


def test_a_prompt_beyond_the_context_is_told(run, random_bytes):
    code, _, errors = run("model", "--prompt", "a" * 20, "--max-new-tokens", 1)
    assert (code, errors) == (0, "note: prompt 1 has 20 tokens; the model sees the last 16\n")


def test_a_model_of_bytes_takes_any_bytes(run, random_bytes):  # SPEC F6
    """They come back in JSON as half characters, as Python writes bytes that are no text."""
    expected = generate(random_bytes, [b"a\xff"], 4, Sampler(0.2))[0]
    for options in (("--prompt", os.fsdecode(b"a\xff")), ("--prompts-file", "-")):
        stdin = b"a\xff\n"
        [o] = as_objects(run("model", *options, "--json", "--max-new-tokens", 4, stdin=stdin)[1])
        assert (o["prompt"], o["tokens"]) == ("a\udcff", expected)


BAD_INPUT = {
    "no prompt": ((), b"", "give either --prompt or --prompts-file"),
    "two prompts": (("--prompt", "a", "--prompts-file", "p"), b"", "give either"),
    "an empty prompt": (("--prompt", ""), b"", "the prompt is empty (--prompt)"),
    "an empty line": (("--prompts-file", "-"), b"a\n\nb\n", "the prompt is empty (-, line 2)"),
    "no lines": (("--prompts-file", "-"), b"", "the prompt is empty (-, line 1)"),
    "no file": (("--prompts-file", "nowhere"), b"", "No such file or directory (nowhere)"),
    "half a string": (("--prompts-file", "-"), b'a\n"b\n', "not a JSON string (-, line 2)"),
    "a string and more": (("--prompts-file", "-"), b'"a" b\n', "not a JSON string (-, line 1)"),
    "a broken string": (("--prompts-file", "-"), b'"\\ud800"\n', "not a JSON string (-, line 1)"),
    "not UTF-8": (("--prompts-file", "-"), b"a\n\xff\n", "not UTF-8 text (-, line 2)"),
    "k above V": (("--prompt", "a", "--top-k", "5000"), b"", "top_k = 5000 of a vocabulary"),
    "k of 0": (("--prompt", "a", "--top-k", "0"), b"", "top_k = 0 is not null or"),
    "p of 0": (("--prompt", "a", "--top-p", "0"), b"", "top_p = 0.0 is not above 0, at most 1"),
    "p above 1": (("--prompt", "a", "--top-p", "1.1"), b"", "top_p = 1.1 is not above 0"),
    "min-p above 1": (("--prompt", "a", "--min-p", "2"), b"", "min_p = 2.0 is not from 0 to 1"),
    "a temperature that is no number": (("--prompt", "a", "--temperature", "nan"), b"", "nan is"),
    "an unknown preset": (("--prompt", "a", "--preset", "wild"), b"", "no preset 'wild'. Known"),
    "an unknown model": (("--prompt", "a", "--model", "gpt9"), b"", "no model 'gpt9' (--model)"),
    "two models": (("x", "--prompt", "a", "--model", "y"), b"", "either a checkpoint or --model"),
    "no samples": (
        ("--prompt", "a", "--n-samples", "0"),
        b"",
        "n_samples = 0 is not an integer of at least 1 (--n-samples)",
    ),
    "fewer than no tokens": (("--prompt", "a", "--max-new-tokens", "-1"), b"", "is not from 0"),
    "an empty stop string": (("--prompt", "a", "--stop", ""), b"", "stop string is empty (--stop)"),
    "bars of many": (("--prompts-file", "p", "--probabilities"), b"", "one text at a time"),
    "a folder of nothing": ((".", "--prompt", "a"), b"", "no checkpoint here"),
    "a broken GGUF file": (("x.gguf", "--prompt", "a"), b"", "x.gguf"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_ends_with_one_line_and_code_2(name, run):  # SPEC S6 S9
    arguments, stdin, expected = BAD_INPUT[name]
    code, output, errors = run(*arguments, stdin=stdin)
    assert (code, output) == (2, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert expected in errors


def test_smollm2_that_is_not_here_says_how_to_get_it(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TRANSFORMER_LESSONS_CACHE", str(tmp_path / "empty"))
    code, _, errors = run("--prompt", "a", "--model", "smollm2-135m")
    assert code == 2
    assert "python -m transformer_lessons download smollm2-135m" in errors


def test_probabilities_in_a_narrow_terminal():  # SPEC F10
    line = token_line(BPETokenizer.train("", 256), 27, 1.0, width=40)
    assert len(line) < 40
    assert line.split() == ["'·'", "27", "█" * 11, "100.00%"]
    wide = token_line(BPETokenizer({**{b: bytes([b]) for b in range(256)}}, []), 97, 0.5, 80)
    assert wide.split() == ["'a'", "97", "█" * 10 + "░" * 10, "50.00%"]


def test_a_reader_that_leaves_ends_it_quietly():
    line = [*COMMAND, "--prompts-file", "-", "--json", "--max-new-tokens", "1"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, env=ENVIRONMENT, **pipes) as process:
        process.stdin.write(b"a\n" * 1000)
        process.stdin.close()
        assert json.loads(process.stdout.readline())["prompt"] == "a"
        process.stdout.close()
        errors = process.stderr.read()
        assert (process.wait(timeout=120), errors) == (141, b"")


def test_errors_are_told_before_a_model_is_loaded(run, monkeypatch):
    def fail(*_):
        raise AssertionError

    monkeypatch.setattr("transformer_lessons.cli.models.open_model", fail)
    assert run("--prompt", "a", "--temperature", "-1")[0] == 2
    assert run("--prompt", "a", "--preset", "x")[0] == 2
