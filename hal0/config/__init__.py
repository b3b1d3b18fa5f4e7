"""Configuration: pydantic models and the TOML files behind them."""
