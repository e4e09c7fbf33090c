"""`mendel serve` in a process of its own, as people run it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mendel.cli.bench_serve import started
from mendel.serve.replay import Server


@contextmanager
def server(
    model: Path, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[Server, int]]:
    """Where it listens, and its process id; what it logs goes where ours does."""
    with started(model, list(options), env={**os.environ, **(env or {})}) as (running, process):
        yield running, process.pid


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def processor_s(pid: int) -> float:
    """User and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
