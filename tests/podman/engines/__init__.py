"""What every engine must give every client, on the real thing."""
