"""How a model comes to this machine: jobs of hal0's own that survive its end, and never put a wrong file in place."""
