"""Text to token ids and back: bytes, byte-pair encoding, tiktoken. Lessons 2 and 3."""
