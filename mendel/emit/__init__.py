"""A champion becomes a project that runs alone."""
