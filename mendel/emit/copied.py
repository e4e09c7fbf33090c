"""How much of what a model writes stands in its training texts: by whole items and by runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd: of the polynomial that hashes runs, mod 2^64


def copied(written: Sequence[str], training: Sequence[str], most: int) -> dict[str, Any]:
    """Whole items and runs of characters that training texts have too.

    written   texts without their prompts
    most      bytes after which they were cut: such a text is whole where a training text begins so
    returns   n; n_whole, items that are a training text; n_new, the others; n_distinct; run, the
              longest that stands in a training text, and longest, its length in characters
    cost      a second for 10 MB of training text
    """
    known = set(training)
    n_whole = sum(text in known or _begins(text, training, most) for text in written)
    run = longest_run(written, training)
    return {
        "n": len(written),
        "n_whole": n_whole,
        "n_new": len(written) - n_whole,
        "n_distinct": len(set(written)),
        "longest": len(run),
        "run": run,
    }


def _begins(text: str, training: Sequence[str], most: int) -> bool:
    """Whether a text that was cut is how a training text begins."""
    whole = text.rstrip("\ufffd")  # half a character, where the cut went through it
    return len(text.encode()) >= most and any(other.startswith(whole) for other in training)


def longest_run(written: Sequence[str], training: Sequence[str]) -> str:
    """The longest piece of what was written that stands in one training text; "" if none."""
    # what parts the texts differs between the two, so that no run goes from one into the next
    mine, its = (
        _codes("\0".join(texts), gap) for texts, gap in ((written, 1 << 33), (training, 1 << 34))
    )
    low, high, found = 0, max(map(len, written), default=0), ""
    while low < high:
        middle = (low + high + 1) // 2
        place = _shared(mine, its, middle)
        if place is None:
            high = middle - 1
        else:
            low, found = middle, "\0".join(written)[place : place + middle]
    return found


def _codes(text: str, gap: int) -> NDArray[np.uint64]:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    return np.where(codes == 0, np.uint64(gap), codes)


def _shared(mine: NDArray[np.uint64], its: NDArray[np.uint64], length: int) -> int | None:
    """Where mine has a run of that length that its has too."""
    if min(len(mine), len(its)) < length:
        return None
    places = np.flatnonzero(np.isin(_hashes(mine, length), _hashes(its, length)))
    return int(places[0]) if len(places) else None


def _hashes(codes: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """Of every run of that length: sum of code * FACTOR ** place, mod 2^64, by doubling."""
    found, power, done, at = np.zeros(len(codes), np.uint64), FACTOR, 0, codes
    step = 1
    while step <= length:
        if length & step:
            shifted = at[done:]
            found = found[: len(shifted)] * power + shifted
            done += step
        if 2 * step <= length:
            at = at[:-step] * power + at[step:]
            with np.errstate(over="ignore"):  # mod 2^64 is what is meant
                power = power * power
        step *= 2
    return found[: len(codes) - length + 1]
