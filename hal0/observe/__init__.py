"""What happened: decisions, activity, metrics."""
