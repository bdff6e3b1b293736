"""Making a model better: loss, optimizers, loop, checkpoints, rewards. Lessons 12 to 15, 22, 23.

Each name is loaded when it is asked for: who needs a configuration doesn't wait for PyTorch.
"""

from transformer_lessons.lazy import lazy_names

_NAMES = {
    "chat_data": ["chat_example", "chat_examples", "pack_examples", "read_conversations"],
    "checkpoint": ["Checkpoint", "checkpoints", "latest_checkpoint", "load_checkpoint",
                   "save_checkpoint", "write_checkpoint"],
    "clipping": ["clip_grad_norm"],
    "config": ["TrainConfig", "train_preset"],
    "distributed": ["Ranks", "check_same", "find_ranks", "gather", "is_first", "joined",
                    "one_voice", "own_rows"],
    "evaluate": ["Evaluation", "token_lengths", "unigram_loss"],
    "loss": ["LinearCrossEntropy", "cross_entropy", "linear_cross_entropy"],
    "memory": ["keep_memory"],
    "optimizer": ["AdamW", "Muon", "adamw_update", "make_optimizers", "newton_schulz",
                  "parameter_groups"],
    "preference": ["dpo_loss", "group_advantages", "policy_gradient_loss",
                   "sequence_log_probability", "undefined_names"],
    "parallel_plan": ["ParallelPlan", "plan_ranks"],
    "precision": ["GradScaler", "autocast"],
    "rank_trainer": ["RankTrainer", "evaluate_together", "load_distributed", "load_whole",
                     "shard_model", "whole_run"],
    "schedule": ["constant_schedule", "cosine_schedule", "learning_rate_at", "wsd_schedule"],
    "state": ["random_state", "restore_trainer", "set_random_state", "trainer_state"],
    "trainer": ["StepReport", "Stateful", "Trainer", "accumulate_gradients", "batch_loss"],
}  # fmt: skip
__all__ = sorted(name for names in _NAMES.values() for name in names)
__getattr__ = lazy_names(__name__, _NAMES)
