"""The scores that the sampling explorer of lesson 17 draws from: a script that its page loads.

`publish.py` writes it. It holds every token of `python-small` and, for a few prompts, the score of
each token as the next one. Nothing is left out: a penalty can bring any token to the top.
"""

import base64
import json

import torch

from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.inference import inference
from transformer_lessons.tokenizers.tokenizer import Tokenizer
from transformer_lessons.weights.shipped import load_shipped

# From one clear answer to none; where the text repeats itself, penalties do harm.
PROMPTS = {
    "One clear answer": "try:\n    value = table[key]\nexcept",
    "A few good answers": "if x == 1:\n    return True\nelif x == 2:\n    return",
    "A docstring": 'def mean(values):\n    """Return the',
    "Almost anything": "import os\nimport sys\nimport",
    "A pattern": "x = x + 1\nx = x + 1\nx =",
}


def scores_script() -> str:
    """The script that sets `TransformerLessons.scores` to { tokens, prompts: [{ name, ... }] }.

    A token is its bytes, one character (code 0 to 255) for each. The scores are float32, least
    significant byte first, in base64.
    """
    shipped, tokenizer = load_shipped()
    model = shipped.double()  # rounded to float32, its scores are the same on every machine
    tokens = [tokenizer.decode_bytes([id]).decode("latin-1") for id in range(tokenizer.n_vocab)]
    prompts = [prompt_entry(model, tokenizer, name, text) for name, text in PROMPTS.items()]
    lines = ",\n".join(json.dumps(entry) for entry in prompts)
    document = f'{{"tokens": {json.dumps(tokens)},\n"prompts": [\n{lines}]}}'
    return f"TransformerLessons.scores = {document};\n"


def prompt_entry(model: Decoder, tokenizer: Tokenizer, name: str, text: str) -> dict:
    """One prompt: its name, its tokens, and the scores (V,) of what may follow it."""
    history = tokenizer.encode(text)
    with inference(model):
        logits = model(torch.tensor([history]))[0, -1]
    scores = base64.b64encode(logits.float().numpy().astype("<f4").tobytes()).decode("ascii")
    return {"name": name, "history": history, "scores": scores}
