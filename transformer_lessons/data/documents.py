"""Documents: one text cut into several, and written as token ids. Lesson 4."""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.documents import Document
from transformer_lessons.tokenizers.tokenizer import Tokenizer

END_OF_TEXT = "<|endoftext|>"


def separate_documents(documents: Iterable[Document], separator: str) -> Iterator[Document]:
    """The documents between the `separator`s of each of `documents`; blank ones are left out.

    A separator that is found nowhere raises `LessonsError`.

    >>> [page.text for page in separate_documents([Document("one<|>two", "a.txt")], "<|>")]
    ['one', 'two']
    """
    n_found, held, has_begun = 0, "", False  # held: what stands behind the last separator
    for document in documents:
        *whole, held = (held + document.text).split(separator) if separator else [document.text]
        n_found += len(whole)
        if document.is_end:
            whole, held = [*whole, held], ""
        for text in whole:
            if has_begun or text.strip():
                yield Document(text, document.source)
            has_begun = False
        # A long text comes in pieces, and a separator may have been cut in two.
        if held and not any(held.endswith(separator[:n]) for n in range(1, len(separator))):
            yield Document(held, document.source, is_end=False)
            held, has_begun = "", True
    if n_found == 0:
        raise LessonsError(f"{separator!r} is nowhere in the text", where="separator")


def encode_documents(
    documents: Iterable[Document], tokenizer: Tokenizer
) -> Iterator[tuple[Document, list[int]]]:
    """Each document and its ids, the last of which is <|endoftext|>, if the tokenizer has it.

    Special tokens that stand in the text are text; how many there were is a warning at the end. A
    document of more than a million bytes comes in pieces, and only the last has the end.
    """
    end, found = tokenizer.special_tokens.get(END_OF_TEXT), Counter[str]()
    for document in documents:
        for token in {END_OF_TEXT, *tokenizer.special_tokens}:
            found[token] += document.text.count(token)
        ids = tokenizer.encode_ordinary(document.text)
        yield document, [*ids, end] if document.is_end and end is not None else ids
    if counts := ", ".join(f"{token} ({n:,})" for token, n in sorted((+found).items())):
        what = f"special tokens stand in the text and were encoded as plain text: {counts}"
        warnings.warn(f"{what}. A separator splits documents there.", stacklevel=2)
