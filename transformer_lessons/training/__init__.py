"""Making a model better: loss, schedule, the loop, checkpoints, evaluation."""
