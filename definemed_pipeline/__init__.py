"""DeFineMed as a living Dagster project: from the open web to specialised language models."""
