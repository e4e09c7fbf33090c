"""The sections of benchmarks/serve.py; each has measure(options), which gives rows for the table."""
