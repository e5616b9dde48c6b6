"""From scored documents to the corpus: what is taken, what is dropped for which reason, how it is written and described."""
