"""All planted faults; `why` ends with what verify.py measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from . import Case
from .attention_faults import ATTENTION
from .extent_faults import EXTENT
from .length_faults import LENGTH
from .memory_faults import MEMORY
from .model_faults import MODELS
from .number_faults import NUMBERS
from .review_faults import REVIEW_FAULTS
from .step_faults import STEP
from .time_faults import TIME

MEASURED = Path(__file__).with_name("measured.json")


def with_sizes(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    sizes = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    return tuple(
        replace(case, why="; ".join(filter(None, (case.why, sizes.get(case.name)))))
        for case in cases
    )


FAULTS: tuple[Case, ...] = with_sizes(
    (*ATTENTION, *TIME, *LENGTH, *MEMORY, *STEP, *NUMBERS, *EXTENT, *MODELS, *REVIEW_FAULTS)
)
