"""How a payload is launched: as a local process or as a Kubernetes Job, behind one interface."""
