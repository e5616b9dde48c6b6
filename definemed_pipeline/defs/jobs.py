"""Jobs: the corpus, the models with their evaluation, and everything."""

import dagster as dg

CORPUS = dg.AssetSelection.groups("corpus")
MODELS = dg.AssetSelection.groups("models", "evaluation")

corpus_job = dg.define_asset_job("corpus", CORPUS, description="From the source's files to FineMed-de.")
models_job = dg.define_asset_job("models", MODELS, description="From base models and FineMed-de to model cards.")
everything_job = dg.define_asset_job("everything", CORPUS | MODELS, description="The whole graph.")
