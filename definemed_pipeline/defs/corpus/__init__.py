"""Assets of the corpus, one module each, in the order of the paper: shards, annotations, classifier, certificate, scores, FineMed-de."""
