"""Making a model write: a next token is chosen, appended, and the model is asked again."""

# fmt: off
# isort: off
from transformer_lessons.generation.beam import beam_search
from transformer_lessons.generation.conversation import Conversation, Message
from transformer_lessons.generation.decoding import Decoding, compiled_forward
from transformer_lessons.generation.generate import (
    complete, eos_token_ids, generate, known_tokens, stream, stream_batch)
from transformer_lessons.generation.sampling import SAMPLERS, Sampler
from transformer_lessons.generation.speculative import DraftModel, PromptLookup, speculate
from transformer_lessons.generation.text_stream import TextStreamer

__all__ = [
    "SAMPLERS", "Conversation", "Decoding", "DraftModel", "Message", "PromptLookup", "Sampler",
    "TextStreamer", "beam_search", "compiled_forward", "complete", "eos_token_ids", "generate",
    "known_tokens", "speculate", "stream", "stream_batch",
]
