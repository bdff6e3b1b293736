"""From characters to batches of token ids."""
