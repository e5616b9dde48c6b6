"""HOW a CPT checkpoint is merged with the instruct model it came from."""
