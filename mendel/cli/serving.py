"""What `mendel serve` puts together: model, program, plans, engine, chooser, server."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mendel.types import InputError

AGENT = "agent.json"
LEAST_BYTES = 16_000_000  # for texts


@dataclass(frozen=True)
class Options:
    """The flags of `mendel serve`."""

    folder: Path
    host: str
    port: int
    mode: Literal["exact", "deterministic"]
    dtype: Literal["float32", "bf16"]
    max_memory: int
    keys: Path | None
    plan: str | None
    drain_s: float
    name: str | None
    tokenizer: Path | None
    max_queue: int
    max_running: int
    feedback: Path | None
    log_requests: bool
