"""Reads the JSON that `export_json` writes, as somebody else's program would."""

import json

import torch

from transformer_lessons.config import ModelConfig
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.state_dict import assign_tensors


def load_json(path):
    """The model in an exported file."""
    document = json.loads(path.read_text(encoding="utf-8"))
    model = Decoder(ModelConfig.from_dict(document["config"]))
    tensors = {
        name: torch.tensor(entry["data"], dtype=torch.float64).float().reshape(entry["shape"])
        for name, entry in document["weights"].items()
    }
    assign_tensors(model, tensors)
    return model
