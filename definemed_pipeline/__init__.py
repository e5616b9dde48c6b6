"""DeFineMed as a living Dagster project: from the open web to specialised language models."""

import gc

# Every stage is a process of its own, which imports hundreds of thousands of objects to stay. Python 3.11 looks for cycles among the
# youngest at every 700; at every 10,000 a start takes a sixth less (benchmarks/README.md).
gc.set_threshold(10_000)
