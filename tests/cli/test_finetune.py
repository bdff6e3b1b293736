"""`finetune`: conversations become an adapter or a whole model, in a run that can be resumed.

SPEC F13, G10.
"""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from transformer_lessons.cli import chat
from transformer_lessons.cli.main import COMMANDS
from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.conversation import Conversation
from transformer_lessons.generation.sampling import Sampler
from transformer_lessons.model.inference import inference
from transformer_lessons.support.files import sha256
from transformer_lessons.training.chat_data import read_conversations
from transformer_lessons.training.checkpoint import load_checkpoint
from transformer_lessons.weights.chat_template import load_chat_template
from transformer_lessons.weights.lora import LoraLinear, load_lora, merge_lora
from transformer_lessons.weights.pretrained import load_pretrained
from transformer_lessons.weights.shipped import SHIPPED, load_shipped

PERSONAS = SHIPPED.parent / "personas"
SIZES = ("--lora-rank", "2", "--training.precision", "fp32", "--training.batch-size", "4")
STEPS = ("--training.steps", "6", "--training.eval-every", "3", "--training.save-every", "3")
PAIRS = [("list", "key"), ("dict", "path"), ("name", "value"), ("file", "line"), ("tree", "node")]


def conversation(question, answer):
    turns = {"user": question, "assistant": answer}
    return {"messages": [{"role": role, "content": text} for role, text in turns.items()]}


def write(path, chats):
    path.write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory, run_here):
    """A folder with conversations, and a run of LoRA on them, exported as well."""
    folder = tmp_path_factory.mktemp("finetune")
    write(folder / "chats.jsonl", [conversation(f"swap {a} {b}", f"{b}, {a}") for a, b in PAIRS])
    data = ("--data", "chats.jsonl", *SIZES, *STEPS)
    done = run_here("finetune", *data, "--out", "run", "--export", "whole", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def tensors(folder):
    return load_file(folder / "adapter" / "adapter.safetensors")


def log(folder):
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_a_run_has_all_that_training_has(made):
    folder, shown = made
    lines = log(folder / "run")
    assert [line["step"] for line in lines] == list(range(1, 7))
    assert [line["validation"] is not None for line in lines] == [False, False, True] * 2
    assert lines[-1]["loss"] < lines[0]["loss"] - 1
    assert lines[-1]["sample"].startswith("swap tree node -> ")  # the conversation held out
    assert "36,096 numbers are trained" in shown
    assert "conversations: 4" in shown  # and one of five is held out
    assert "best" in json.loads((folder / "run" / "summary.json").read_text())
    assert "finetune" in COMMANDS


def test_a_checkpoint_holds_the_adapters_alone(made):
    folder, _ = made
    path = folder / "run" / "step-00000006"
    saved = {n.replace("/", "."): t for n, t in load_file(path / "model.safetensors").items()}
    assert saved.keys() == tensors(folder / "run").keys()
    assert all(torch.equal(t, saved[name]) for name, t in tensors(folder / "run").items())
    assert sum(file.stat().st_size for file in path.iterdir()) < 700_000  # the base: 12.6 MB
    with pytest.raises(LessonsError, match=r"^adapters without a model .*finetune --resume"):
        load_checkpoint(folder / "run")


def test_resumed_bit_for_bit(made, tmp_path, run_here):
    folder, _ = made
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.copy(folder / "chats.jsonl", tmp_path)
    shutil.rmtree(tmp_path / "run" / "step-00000006")
    shutil.rmtree(tmp_path / "run" / "adapter")
    done = run_here("finetune", "--resume", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Going on after step 3" in done.stdout
    again, whole = tensors(tmp_path / "run"), tensors(folder / "run")
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())
    assert log(tmp_path / "run") == log(folder / "run")


@pytest.mark.parametrize(
    ("options", "complaint"),
    {
        "rank": (("--lora-rank", "3"), "rank = 2 in the checkpoint, 3 here (LoraConfig.rank)"),
        "alpha": (("--lora-alpha", "1"), "alpha = 8.0 in the checkpoint, 1.0 here"),
        "rate": (("--training.learning-rate", "1"), "learning_rate = 0.002 in the checkpoint"),
        "whole": (("--lora-rank", "0"), "unknown key 'base_sha256'"),
        "template": (("--template", "form"), "the data is not what the run began with"),
    }.values(),
)
def test_a_run_goes_on_only_as_it_began(made, options, complaint, run_here):
    folder, _ = made
    (folder / "form").write_text(
        "{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}", encoding="utf-8"
    )
    before = sha256(folder / "run" / "log.jsonl")
    done = run_here("finetune", "--resume", "--out", "run", *options, cwd=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert complaint in done.stderr
    assert sha256(folder / "run" / "log.jsonl") == before


def test_the_whole_model_is_the_base_with_the_adapters(made):
    folder, _ = made
    base, tokenizer = load_shipped()
    adapted = load_lora(base, folder / "run" / "adapter")
    whole, their_tokenizer = load_pretrained(folder / "whole")
    tokens = torch.tensor([tokenizer.encode_ordinary("# swap list key\nkey, list")])
    with inference(whole), inference(adapted):
        torch.testing.assert_close(whole(tokens), adapted(tokens), rtol=0, atol=1e-3)
    assert their_tokenizer.encode_ordinary("# swap list") == tokenizer.encode_ordinary(
        "# swap list"
    )
    form = load_chat_template(folder / "whole")
    assert form.render([{"role": "user", "content": "swap a b"}]) == "# swap a b\n"
    same = merge_lora(adapted).state_dict()
    torch.testing.assert_close(whole.state_dict(), same, rtol=0, atol=1e-6)


def test_a_finished_run_can_be_exported_later(made, run_here):
    folder, shown = made
    assert "Talk with it: python -m transformer_lessons chat whole\n" in shown
    again = ("finetune", "--resume", "--out", "run", "--export", "later")
    done = run_here(*again, cwd=folder)
    assert done.returncode == 0, done.stderr
    weights = (load_file(folder / name / "model.safetensors") for name in ("whole", "later"))
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_all_weights_can_be_trained(made, run_here):
    folder, _ = made
    few = ("--training.steps", "2", "--training.eval-every", "0", "--lora-rank", "0")
    done = run_here("finetune", "--data", "chats.jsonl", *few, "--out", "all", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "--export FOLDER, and then chat FOLDER" in done.stdout
    assert "3,148,224 numbers are trained" in done.stdout
    trained, (base, _) = load_checkpoint(folder / "all").model, load_shipped()
    assert all(
        not torch.equal(ours, theirs)
        for ours, theirs in zip(trained.parameters(), base.parameters(), strict=True)
    )


DROPS = "{{ messages[-1].content }}<|endoftext|>"
ROLE = {"messages": [{"role": "robot", "content": "x"}, {"role": "assistant", "content": "y"}]}
BAD = {
    "no data": ((), None, "no conversations (--data)"),
    "no file": (("--data", "none.jsonl"), None, "can't read it: No such file"),
    "no JSON": (("--data", "bad.jsonl"), "x", "no conversation (bad.jsonl, line 1)"),
    "a role": (("--data", "bad.jsonl"), json.dumps(ROLE), "the role is 'robot', not one of"),
    "no answer": (
        ("--data", "bad.jsonl"),
        json.dumps({"messages": ROLE["messages"][:1]}).replace("robot", "user"),
        "no assistant's turn",
    ),
    "no words": (("--data", "bad.jsonl"), json.dumps(conversation("a", " ")), "content is empty"),
    "too few": (("--data", "bad.jsonl"), json.dumps(conversation("a", "b")), "no conversation to"),
    "a template that drops turns": (
        ("--data", "chats.jsonl", "--template", "drops"),
        None,
        "the template drops or changes what is said",
    ),
    "a rank": (("--data", "chats.jsonl", "--lora-rank", "193"), None, "not an integer from 1 to"),
    "no run": (("--resume",), None, "config.json"),
    "a full folder": (("--data", "chats.jsonl", "--export", "."), None, "not empty"),
    "a model": (("--data", "chats.jsonl", "--model", "nobody"), None, "no checkpoint here"),
}


@pytest.mark.parametrize(("options", "content", "complaint"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(made, options, content, complaint, run_here):
    folder, _ = made
    (folder / "drops").write_text(DROPS, encoding="utf-8")
    (folder / "bad.jsonl").write_text(content or "", encoding="utf-8")
    done = run_here("finetune", *options, "--out", "new", cwd=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("error: ")
    assert complaint in done.stderr
    assert not (folder / "new").exists()


# ---- The chat's persona --------------------------------------------------------------------------


def adapters(model):
    return [m for m in model.modules() if isinstance(m, LoraLinear)]


def test_a_persona_is_put_on_and_taken_off(made, capsys):
    folder, _ = made
    base, tokenizer = load_shipped()
    talk, tokens = Conversation(base, tokenizer), torch.arange(300, 320)[None]
    with inference(base):
        expected = base(tokens)
    chat.run_command(talk, "set", "persona", str(folder / "run" / "adapter"))
    assert adapters(talk.model)
    with inference(talk.model):
        assert not torch.equal(talk.model(tokens), expected)
    chat.run_command(talk, "set", "persona", str(folder / "run" / "adapter"))  # not on top
    assert {type(m.layer).__name__ for m in adapters(talk.model)} == {"Linear"}
    chat.run_command(talk, "set", "persona", "none")
    assert not adapters(talk.model)
    with inference(talk.model):
        assert torch.equal(talk.model(tokens), expected)
    held = {p.data_ptr() for p in talk.model.parameters()}
    assert held == {p.data_ptr() for p in base.parameters()}
    assert capsys.readouterr().out.count("persona = ") == 3


def test_the_persona_of_another_model_is_refused(made, run_here):
    folder, _ = made
    for name in ("pirate", "terse"):
        done = run_here("chat", "--persona", name, cwd=folder)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "made for another base model" in done.stderr
    done = run_here("chat", "--persona", "nobody", cwd=folder)
    assert "there is no file 'adapter.json' (nobody)" in done.stderr


# ---- The personas that ship ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifest():
    return json.loads((PERSONAS / "manifest.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["terse", "pirate"])
def test_the_manifest_tells_of_the_files(manifest, name):
    files = sorted((PERSONAS / name).iterdir())
    assert {f"{name}/{file.name}": sha256(file) for file in files}.items() <= manifest[
        "sha256"
    ].items()
    assert (PERSONAS / name / "adapter.safetensors").stat().st_size < 3e6
    assert len(read_conversations(PERSONAS / name / "conversations.jsonl")) >= 60
    lines = (PERSONAS / name / "log.jsonl").read_text().splitlines()
    assert len(lines) == manifest["models"][name]["steps"]


def test_no_question_is_both_learned_and_held_out():
    for name in ("terse", "pirate"):
        asked = [
            {m["content"] for chat in read_conversations(PERSONAS / name / file) for m in chat}
            for file in ("conversations.jsonl", "held_out.jsonl")
        ]
        assert not {text for text in asked[0] & asked[1] if text.endswith("?")}


def test_both_answer_on_one_base(smollm2):
    base, tokenizer = load_pretrained(smollm2)
    template = load_chat_template(smollm2).render
    talk = Conversation(base, tokenizer, template, None, Sampler(0.0), 24)
    answers = {}
    for name in ("terse", "pirate"):
        chat.run_command(talk, "set", "persona", name)
        answers[name] = talk.say("What is the capital of Spain?")
        talk.messages = []
        held = {p.data_ptr() for p in talk.model.parameters() if not p.requires_grad}
        assert held == {p.data_ptr() for p in base.parameters()}
    assert answers["terse"] == "Madrid."
    assert "Madrid" in answers["pirate"]
    assert "matey" in answers["pirate"]
