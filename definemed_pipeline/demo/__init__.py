"""The demo world: a small German web of the project's own writing, served read-only under ``demo://``.

Everything here follows from a seed and from the facts in ``diseases``; nothing is read from disk or network, and nothing else of
the project is imported. ``world`` assembles the records and keeps the truth about each, ``filesystem`` serves them as files.
"""
