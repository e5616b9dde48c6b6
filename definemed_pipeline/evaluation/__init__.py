"""How models are scored, compared and diagnosed, and what their cards say."""
