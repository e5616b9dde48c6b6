"""Assets of the corpus, one module each, in the order of the paper.

Shards, sampling frames, annotations, classifier, certificate, scores, FineMed-de.
"""
