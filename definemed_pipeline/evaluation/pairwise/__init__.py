"""Models against models: a judge's verdicts on pairs of answers, and the win rates, strengths and agreements that follow from them."""
