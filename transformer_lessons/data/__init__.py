"""From a pile of documents to batches: the tools of lesson 4, and the pairs of lesson 2.

Each name is loaded when it is asked for: who needs a configuration doesn't wait for PyTorch.
"""

from transformer_lessons.lazy import lazy_names

_NAMES = {
    "batches": ["IGNORE", "CountedBatches", "batches_from_text", "consecutive_windows",
                "encode_and_hold_out", "random_windows"],
    "cleaning": ["clean"], "config": ["DataConfig"], "quality": ["check_quality"],
    "deduplication": ["ExactDuplicates", "NearDuplicates"],
    "documents": ["END_OF_TEXT", "encode_documents", "separate_documents"],
    "packing": ["TokenWindows", "document_mask"], "sampler": ["WindowLoader"],
    "pairs": ["pair_batches", "read_pairs", "write_pairs"], "split": ["split_of"],
    "stream": ["TokenStream"], "token_files": ["TokenFile", "open_tokens", "tokenize_corpus"],
}  # fmt: skip
__all__ = sorted(name for names in _NAMES.values() for name in names)
__getattr__ = lazy_names(__name__, _NAMES)
