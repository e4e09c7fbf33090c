"""The design clock: one model for one task, found on a ladder within a budget."""
