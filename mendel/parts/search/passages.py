"""A passage: a piece of a file that answers a query."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Passage(NamedTuple):
    """Where a piece of text stands, and what it says."""

    file: str  # below the folder, with /
    first: int  # line, from 1
    last: int  # line, included
    start: int  # character of the file, ends of lines counted as one; of HTML about there
    end: int  # excluded
    text: str


def to_bytes(passages: Iterable[Passage]) -> NDArray[np.uint8]:
    """JSON as an array, for files that hold arrays."""
    return np.frombuffer(json.dumps([*passages]).encode("ascii"), np.uint8)


def from_bytes(content: NDArray[np.uint8]) -> tuple[Passage, ...]:
    return tuple(Passage(*fields) for fields in json.loads(content.tobytes()))
