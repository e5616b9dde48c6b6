"""HOW a CPT checkpoint is merged with the instruct model it came from.

Knows the layout of a model folder from `training.model_folder`, the one place that says which files make a model; nothing else of
`training` is used.
"""
