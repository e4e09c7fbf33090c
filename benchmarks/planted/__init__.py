"""Planted faults that `mendel audit` must find and name, and sound modules it must not accuse.

    cd benchmarks; python -m planted.verify      # is each fault real, is each sound module sound?

`planted.faults.FAULTS` and `planted.sound.SOUND` are the cases. Nothing here has read the auditor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Case:
    """One module, and what an auditor should say of it.

    kind      family of the fault; of sound modules: part, torch, huggingface, hand-written
    expected  checks that name the fault rightly, the best first; () for sound modules
    build     width -> a module with random weights; seed torch before
    input     float:B,T,64 | tokens:B,T,50 | float:T,B,64; 64 stands for the width
    output    element of the module's output that is the sequence; None: itself, or the first
    options   linear=True: it claims cost linear in T and a state that does not grow; max_length=N:
              its stated limit; state="name" of the argument that takes the carried state, with
              state_output=1; bidirectional=True: each output may see all of its own row, and how
              long that is
    why       the fault, its size on standard normals (of the outputs' sd), where it would bite
    """

    name: str
    kind: str
    expected: tuple[str, ...]
    build: Callable[[int], nn.Module]
    input: str = "float:B,T,64"
    output: int | str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
