"""How a payload is launched: as a local process today, behind one interface."""
