"""The trained model that comes with the package, so that lessons run at once. Lesson 13."""

from pathlib import Path

from transformer_lessons.model.decoder import Decoder
from transformer_lessons.tokenizers.tokenizer import Tokenizer, load_tokenizer
from transformer_lessons.training.checkpoint import load_checkpoint

SHIPPED = Path(__file__).parent.parent / "python_small"


def load_shipped() -> tuple[Decoder, Tokenizer]:
    """`python-small`, 3.1 million parameters, trained on Python modules, and its tokenizer.

    How it was made is in `python_small/manifest.json`, and how it went in `log.jsonl` beside it.

    >>> model, tokenizer = load_shipped()
    >>> model.config.vocab_size == tokenizer.n_vocab == 4096
    True
    """
    return load_checkpoint(SHIPPED).model, load_tokenizer(SHIPPED / "tokenizer.json")
