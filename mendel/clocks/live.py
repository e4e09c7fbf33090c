"""A champion that is live as one file, replaced whole."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from mendel.blobs import write_atomically
from mendel.types import Candidate, Champion, Result


class LiveFile:
    """What is live on a line, for clocks whose live state is a pointer on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Champion | None:
        """None before the first promotion."""
        if not self.path.exists():
            return None
        data = json.loads(self.path.read_text(encoding="utf-8"))
        candidate = Candidate(**{**data["candidate"], "links": tuple(data["candidate"]["links"])})
        return Champion(candidate, Result(artifacts=data["artifacts"]), data["turn"])

    def write(self, champion: Champion) -> None:
        data = {
            "candidate": asdict(champion.candidate),
            "artifacts": dict(champion.result.artifacts),
            "turn": champion.turn,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(data).encode())
