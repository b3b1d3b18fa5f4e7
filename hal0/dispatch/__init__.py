"""A request's way: peek, resolve, gate, proxy. See design.md beside this file."""
