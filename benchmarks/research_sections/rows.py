"""Rows of a long measurement, kept one by one, so that a killed one goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Rows:
    """A file of JSON lines; rows that were asked otherwise are left alone and not read.

    file    None: nothing is kept
    asked   what the rows depend on, plain JSON
    """

    def __init__(self, file: Path | None, asked: Mapping[str, Any]) -> None:
        self.file, self.asked = file, dict(asked)
        self.known: dict[str, Row] = {}
        text = file.read_text(encoding="utf-8") if file and file.exists() else ""
        if text and not text.endswith("\n"):  # cut off by a kill: it is measured again
            assert file is not None
            text = text[: text.rfind("\n") + 1]
            file.write_text(text, encoding="utf-8")
        for told in map(json.loads, text.splitlines()):
            if told["asked"] == self.asked:
                self.known[told["key"]] = told["row"]

    def get(self, key: str, measure: Callable[[], Row]) -> Row:
        """The row of that name, measured where it is not known, and then on disk."""
        if key not in self.known:
            self.known[key] = measure()
            if self.file is not None:
                told = {"asked": self.asked, "key": key, "row": self.known[key]}
                with self.file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(told) + "\n")
                    out.flush()
                    os.fsync(out.fileno())
        return self.known[key]
