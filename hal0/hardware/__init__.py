"""The machine below: read from sysfs and procfs under a given root."""
