"""What a module says of itself."""

from __future__ import annotations

from mendel.spec import Spec


class Claims(Spec):
    """What the module says of itself; the audit holds it to that."""

    bidirectional: bool = False  # every output may read every input: no causality, length or step
    linear: bool = False  # its cost grows like T, or T log T
    max_length: int | None = None  # it takes no more than that
    state: str | None = None  # the argument that takes the carried state; None: by its name
    state_output: int | str = 1  # the element of the output that is the state
    state_bytes: int | None = None  # of one row in float32
