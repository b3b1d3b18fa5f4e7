"""hal0ctl: a client of the HTTP API like any other."""
