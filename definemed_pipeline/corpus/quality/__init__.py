"""FineWeb2's quality rules as columnar expressions."""
