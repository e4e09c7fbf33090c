"""The sections of benchmarks/engine.py; each has measure(), which gives rows for the table."""
