"""What happened, announced to whoever listens."""
