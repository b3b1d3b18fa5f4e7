"""Models small enough to be made on the spot, for the real engines."""
