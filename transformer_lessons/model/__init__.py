"""The transformer, one idea a file: position, norm, attention, feedforward, block, decoder."""
