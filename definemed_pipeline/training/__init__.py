"""HOW a model comes to be and is continually pre-trained; runs inside the GPU container.

Needs torch, transformers, accelerate, peft, numpy, pyarrow, tokenizers, safetensors, fsspec and dagster-pipes alone. Nothing here knows
Dagster's assets, and nothing here knows which language or subject the texts are about.
"""
