"""hal0: one machine as an OpenAI-compatible inference platform."""

__version__ = "0.1.0"
