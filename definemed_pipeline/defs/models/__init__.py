"""Assets of the models, one partition a base model: base, packed corpus, CPT checkpoint, merged model."""
