"""Generic building blocks that know nothing of hal0."""
