"""AI models on disk: what is there, what it needs, how to read it. A model here is never a pydantic one."""
