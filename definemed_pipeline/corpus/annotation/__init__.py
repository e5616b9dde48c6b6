"""Which documents of the web are labelled, by whom, and how well: sampling frames, samples, annotators."""
