"""What the widget of lesson 22 shows: a batch of two conversations as tokens of SmolLM2.

    python tools/page_chat.py

writes the script that the page loads. It needs SmolLM2; `make personas` runs it.
"""

import json
from pathlib import Path

from notebook_files import ROOT

from transformer_lessons.cli.models import load
from transformer_lessons.data.batches import IGNORE
from transformer_lessons.training.chat_data import chat_example, read_conversations

PERSONAS = ROOT / "transformer_lessons" / "personas"
SCRIPT = ROOT / "book" / "_static" / "widgets" / "chat_mask_tokens.js"
CHOSEN = {"terse": "What is 5 times 6?", "pirate": "Hello!"}  # by persona: how it begins
END = "<|im_end|>"  # of a turn; SmolLM2 pads with it, too


def rows() -> list[list[tuple[str, str]]]:
    """Each conversation as tokens: the text, and "first", "read", "answer", "end" or "padding".

    "answer" is a word to be learned, "end" the token behind the words, and nothing comes before the
    "first" token, so it is never a target.
    """
    loaded, made = load(Path("smollm2-135m")), []
    tokenizer, template = loaded.tokenizer, loaded.template
    assert template is not None
    for persona, question in CHOSEN.items():
        chats = read_conversations(PERSONAS / persona / "conversations.jsonl")
        (chat,) = (list(chat) for chat in chats if chat[0]["content"] == question)
        inputs, targets = chat_example(template, chat, tokenizer)  # type: ignore[arg-type]
        text = template(chat, False)  # type: ignore[call-arg]
        ids = tokenizer.encode(text, allowed_special="all")  # type: ignore[call-arg]
        assert ids[:-1] == inputs.tolist()
        names = [tokenizer.decode([id]) for id in ids]
        kinds = ["first", *("read" if target == IGNORE else "answer" for target in targets)]
        made.append([
            (name, "end" if (name, kind) == (END, "answer") else kind)
            for name, kind in zip(names, kinds, strict=True)
        ])  # fmt: skip
    longest = max(map(len, made))
    return [row + [(END, "padding")] * (longest - len(row)) for row in made]


def chat_script() -> str:
    """The script that sets `TransformerLessons.chat`."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows())
    return f"TransformerLessons.chat = [\n{lines}];\n"


if __name__ == "__main__":
    SCRIPT.write_text(chat_script(), encoding="utf-8")
