"""hal0 against nginx and against nothing at all, in front of one and the same backend."""
