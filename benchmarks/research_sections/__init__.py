"""Sections of benchmarks/research.py."""
