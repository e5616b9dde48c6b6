"""Where the web's documents come from: one module a kind of source, one listing of all, one way to open a listed file.

How a listed file is proved whole and becomes a shard stands in `corpus.register`, how a shard is read in `corpus.shards`.
"""
