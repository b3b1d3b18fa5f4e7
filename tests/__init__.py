"""Proofs, from tables of pure functions to the whole daemon on a live podman."""
