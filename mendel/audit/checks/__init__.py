"""The checks, one file each: what it asks of a module, and what it reports."""
