"""Readers, splits and checks of the user's data."""
