"""From a pile of documents to batches. Lesson 4."""
