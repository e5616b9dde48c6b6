"""Where artifacts live and how each proves its origin: store, manifest, build, lineage."""
