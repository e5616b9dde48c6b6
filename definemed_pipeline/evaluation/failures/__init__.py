"""What goes wrong in answers: other languages, length, repetition, refusals, broken formats; how often, and what a model's stages trade for it."""
