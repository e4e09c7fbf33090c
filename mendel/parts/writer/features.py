"""Text to bytes, and the state that a text begins with. Numpy only: it travels with the model.

A text is END, its bytes, END. What is asked of the model is each byte and the END after them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAX_CHARS = 20_000  # of a text that are read
END = 256  # begins and ends every text; the 256 bytes come before it
N_SYMBOLS = 257
BREAK = "\u2424"  # stands for a line break where a text is one line

Ints = NDArray[np.int64]


def symbols(text: str) -> Ints:
    """The bytes of a text as numbers, without an END: (n,)."""
    told = text[:MAX_CHARS].replace(BREAK, "\n").encode("utf-8", "replace")
    return np.frombuffer(told, np.uint8).astype(np.int64)


def spelled(ids: Sequence[int]) -> str:
    """The text of symbols; bytes that are no UTF-8, as when cut inside a character, are U+FFFD."""
    return bytes(i for i in ids if i < END).decode("utf-8", "replace")


@dataclass(frozen=True)
class Featurizer:
    """What the graph is given: symbols, what comes after each, and the state of a text's start."""

    layers: int
    width: int
    window: int

    def arrays(self, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
        """tokens, targets (B, T) int64, padded by END on the right; the empty state."""
        rows = [symbols(text) for text in texts]
        tokens = np.full((len(rows), 1 + max((len(r) for r in rows), default=0)), END, np.int64)
        targets = tokens.copy()
        for i, row in enumerate(rows):
            tokens[i, 1 : len(row) + 1] = row
            targets[i, : len(row)] = row
        return {"tokens": tokens, "targets": targets, **self.start(len(rows))}

    def start(self, n: int = 1) -> dict[str, NDArray[np.float32]]:
        """The state before n texts: nothing is known yet.

        known (B, W), keys and values (L, B, W, C)
        """
        past = np.zeros((self.layers, n, self.window, self.width), np.float32)
        return {"known": past[0, :, :, 0], "keys": past, "values": past}

    def save(self, file: Path | BinaryIO) -> None:
        numbers = {name: np.array(value) for name, value in asdict(self).items()}
        np.savez(file, **numbers)

    @classmethod
    def load(cls, file: Path | BinaryIO) -> Featurizer:
        with np.load(file, allow_pickle=False) as data:
            return cls(**{name: int(data[name]) for name in ("layers", "width", "window")})
