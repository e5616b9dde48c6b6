"""HOW the merge of a base model is chosen: candidates measured on validation questions and instructions, one of them taken by a rule."""
