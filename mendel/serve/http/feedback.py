"""POST /v1/feedback: what people say of answers, on disk before it is acknowledged.

A line of JSON each, for the learn clock. A line that a crash cut short stays alone: the next one
begins on a line of its own.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from threading import Lock
from typing import Any

from pydantic import Field, model_validator

from mendel.serve.http.errors import Refused
from mendel.serve.http.openai import Body

LONGEST = 1_000_000  # characters of a text
MAX_FILE = 2_000_000_000  # bytes


class Feedback(Body):
    """POST /v1/feedback: of an answer by its id, or of a text."""

    id: str | None = Field(None, min_length=1, max_length=200)
    text: str | None = Field(None, max_length=LONGEST)
    good: bool | None = None
    label: str | None = Field(None, max_length=1_000)  # the right one
    better: str | None = Field(None, max_length=LONGEST)  # what the answer should have been
    note: str | None = Field(None, max_length=10_000)

    @model_validator(mode="after")
    def _says_something(self) -> Feedback:
        if self.id is None and self.text is None:
            raise ValueError("wanted id, of the answer, or text, that was answered")
        if all(v is None for v in (self.good, self.label, self.better, self.note)):
            raise ValueError("wanted at least one of good, label, better, note")
        return self


class Store:
    """A file of JSON lines that only its owner reads."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, Lock()

    def add(self, feedback: Feedback, **known: Any) -> None:
        """Returns when the line is on disk; raises Refused where it cannot be."""
        said = feedback.model_dump(exclude_none=True)
        line = json.dumps({"at": round(time.time(), 3), **known, **said}, ensure_ascii=True)
        with self._lock:
            try:
                self._append(line.encode("ascii") + b"\n")
            except OSError as error:
                raise Refused(
                    507,
                    f"The feedback was not stored: {error.strerror}. Send it again when there is "
                    "room on the server's disk.",
                ) from None

    def _append(self, line: bytes) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size + len(line) > MAX_FILE:
                raise OSError(0, f"the file has reached {MAX_FILE:,} bytes")
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(handle, line) != len(line):
                os.ftruncate(handle, size)
                raise OSError(0, "the disk is full")
            os.fsync(handle)
        finally:
            os.close(handle)
