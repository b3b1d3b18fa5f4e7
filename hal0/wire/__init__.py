"""JSON as seen over HTTP."""
