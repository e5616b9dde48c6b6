"""What exists and when it is built: Dagster lives here (and in `compute`), thin over the work packages."""
