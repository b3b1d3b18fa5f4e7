"""Containers behind one protocol: payload, podman adapter, service child, host facts."""
