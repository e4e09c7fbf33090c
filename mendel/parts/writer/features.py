"""Text to bytes, and the state that a text begins with. Numpy only: it travels with the model.

A text is END, its bytes, END. What is asked of the model is each byte and the END after them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAX_CHARS = 20_000  # of a text that are read
END = 256  # begins and ends every text; the 256 bytes come before it
N_SYMBOLS = 257
BREAK = "\u2424"  # stands for a line break where a text is one line

if TYPE_CHECKING:
    from .counts import Counts

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
    """What the graph is given: symbols, what comes after each, and the state of a text's start.

    counts  None, or what each symbol's probability is by counts, which the graph corrects
    """

    layers: int
    width: int
    window: int
    counts: Counts | None = None

    def arrays(self, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
        """tokens, targets (B, T) int64, padded by END on the right; hints; the empty state."""
        rows = [symbols(text) for text in texts]
        tokens = np.full((len(rows), 1 + max((len(r) for r in rows), default=0)), END, np.int64)
        targets = tokens.copy()
        for i, row in enumerate(rows):
            tokens[i, 1 : len(row) + 1] = row
            targets[i, : len(row)] = row
        return {"tokens": tokens, "targets": targets, **self.hints(tokens), **self.start(len(rows))}

    def hints(self, tokens: Ints) -> dict[str, NDArray[np.float32]]:
        """(B, T, N_SYMBOLS) log probabilities after each token of texts that begin here."""
        if self.counts is None:
            return {}
        order, (B, T) = self.counts.order, tokens.shape
        padded = np.concatenate([np.full((B, max(order - 1, 0)), END), tokens], 1)
        contexts = np.zeros((B, T), np.int64)
        for k in range(order):
            contexts = contexts * N_SYMBOLS + padded[:, k : k + T]
        return {"hints": self.counts.spread(contexts.ravel()).reshape(B, T, N_SYMBOLS)}

    def start(self, n: int = 1) -> dict[str, NDArray[np.float32]]:
        """The state before n texts: nothing is known yet.

        known (B, W), keys and values (L, B, W, C)
        """
        past = np.zeros((self.layers, n, self.window, self.width), np.float32)
        return {"known": past[0, :, :, 0], "keys": past, "values": past}

    def save(self, file: Path | BinaryIO) -> None:
        parts: dict[str, NDArray[Any]] = {
            name: np.array(getattr(self, name)) for name in ("layers", "width", "window")
        }
        for name, value in self.counts.tensors().items() if self.counts else ():
            is_key = name.endswith("entries")  # sorted: their steps take fewer bytes
            parts[name] = np.diff(value, prepend=0) if is_key else value.astype(np.float16)
        np.savez_compressed(file, **parts)  # type: ignore[arg-type]

    @classmethod
    def load(cls, file: Path | BinaryIO) -> Featurizer:
        from .counts import Counts

        with np.load(file, allow_pickle=False) as data:
            parts = {name: data[name] for name in data.files}
        layers, width, window = (int(parts.pop(name)) for name in ("layers", "width", "window"))
        for name, value in parts.items():
            is_key = name.endswith("entries")
            parts[name] = np.cumsum(value) if is_key else value.astype(np.float32)
        return cls(layers, width, window, Counts.from_tensors(parts))
