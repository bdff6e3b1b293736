"""Making a model better: loss, optimizers, the loop, checkpoints, evaluation. Lessons 12 to 14.

Each name is loaded when it is asked for: who needs a configuration doesn't wait for PyTorch.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "chat_data": ["chat_example", "chat_examples", "pack_examples", "read_conversations"],
    "checkpoint": ["Checkpoint", "checkpoints", "latest_checkpoint", "load_checkpoint",
                   "save_checkpoint", "write_checkpoint"],
    "clipping": ["clip_grad_norm"],
    "config": ["TrainConfig", "train_preset"],
    "evaluate": ["Evaluation", "token_lengths", "unigram_loss"],
    "loss": ["LinearCrossEntropy", "cross_entropy", "linear_cross_entropy"],
    "optimizer": ["AdamW", "Muon", "adamw_update", "make_optimizers", "newton_schulz",
                  "parameter_groups"],
    "precision": ["GradScaler", "autocast"],
    "schedule": ["constant_schedule", "cosine_schedule", "learning_rate_at", "wsd_schedule"],
    "state": ["random_state", "restore_trainer", "set_random_state", "trainer_state"],
    "trainer": ["StepReport", "Stateful", "Trainer", "accumulate_gradients", "batch_loss"],
}  # fmt: skip
__all__ = sorted(name for names in _NAMES.values() for name in names)


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
