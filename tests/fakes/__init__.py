"""Stand-ins for faults that the real things cannot be asked to have."""
