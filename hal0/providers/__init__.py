"""What runs inside a container: one module per provider, one small contract."""
