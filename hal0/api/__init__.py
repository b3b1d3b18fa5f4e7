"""The HTTP surface: one route table, thin handlers."""
