"""From a pile of documents to batches: the tools of lesson 4, and the pairs of lesson 2."""

from transformer_lessons.data.batches import (
    IGNORE,
    CountedBatches,
    batches_from_text,
    consecutive_windows,
    random_windows,
)
from transformer_lessons.data.cleaning import clean
from transformer_lessons.data.config import DataConfig
from transformer_lessons.data.deduplication import ExactDuplicates, NearDuplicates
from transformer_lessons.data.documents import (
    END_OF_TEXT,
    encode_and_hold_out,
    encode_documents,
    separate_documents,
)
from transformer_lessons.data.packing import TokenWindows, document_mask, document_positions
from transformer_lessons.data.pairs import pair_batches, read_pairs, write_pairs
from transformer_lessons.data.quality import QualityLimits, check_quality
from transformer_lessons.data.sampler import WindowSampler, load_batches
from transformer_lessons.data.split import split_of
from transformer_lessons.data.stream import TokenStream
from transformer_lessons.data.token_files import TokenFile, open_tokens, tokenize_corpus

# fmt: off
__all__ = [
    "END_OF_TEXT", "IGNORE", "CountedBatches", "DataConfig", "ExactDuplicates", "NearDuplicates",
    "QualityLimits", "TokenFile", "TokenStream", "TokenWindows", "WindowSampler",
    "batches_from_text", "check_quality", "clean", "consecutive_windows", "document_mask",
    "document_positions", "encode_and_hold_out", "encode_documents", "load_batches", "open_tokens",
    "pair_batches", "random_windows", "read_pairs", "separate_documents", "split_of",
    "tokenize_corpus", "write_pairs",
]
# fmt: on
