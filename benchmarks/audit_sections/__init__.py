"""Sections of audit.py."""
