"""Assets of the evaluation: benchmarks, responses, win rates, failure modes, model cards."""
