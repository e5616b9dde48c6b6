"""Assets of the corpus, one module each, in the order of the paper: shards, sampling frames, annotations, classifier, scores, FineMed-de."""
