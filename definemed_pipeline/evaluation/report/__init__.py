"""One page that tells what a run of the graph measured, each number with the file it was read from."""
