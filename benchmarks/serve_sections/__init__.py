"""The sections of benchmarks/serve.py; measure(options) gives rows for the table."""
