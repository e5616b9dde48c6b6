"""The classifier of two stages, its certificate, its audit, and the scores it gives."""
