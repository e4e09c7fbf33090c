"""A graph on one thread, as the emitted project runs it, and how long a text takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import onnxruntime


def session_of(graph: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def median_ms(answer: Callable[[str], Any], texts: Sequence[str]) -> float:
    """Of the texts alone, from the string."""
    times = []
    for text in texts:
        started = time.perf_counter()
        answer(text)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000
