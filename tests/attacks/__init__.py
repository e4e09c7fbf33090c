"""Attacks on the sandbox: a table, a host worth attacking, and a runner that looks for harm.

attack (the noun), world (the host), files, network, floods, processes, privileges, forgery (the
table), run (the runner, also for benchmarks/audit_sections/sandbox.py).
"""
