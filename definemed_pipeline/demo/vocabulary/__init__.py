"""Word lists and sentence patterns of the demo world: data only, no code that writes documents."""
