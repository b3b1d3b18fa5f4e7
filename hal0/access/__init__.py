"""Who may do what: the guard in front of every route."""
