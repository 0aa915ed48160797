"""ingot."""
