"""Slot lifecycle: the heart. See design.md beside this file."""
