"""What a recipe will cost before it runs: the plan, and the tables it is told in."""
