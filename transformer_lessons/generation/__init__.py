"""Making a model speak: choosing a next token, again and again."""
