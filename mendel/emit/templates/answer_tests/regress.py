"""What answers are: a number inside its interval."""

from __future__ import annotations

import json
import math
from pathlib import Path

from predict import Model

FOLDER = Path(__file__).resolve().parents[1]
TEXTS: list[str] = json.loads((FOLDER / "golden.json").read_bytes())["texts"]
MODEL = Model()


def test_a_number_lies_in_its_interval_and_all_intervals_are_as_wide() -> None:
    for answer in MODEL.predict(TEXTS):
        assert math.isfinite(answer.value) and answer.low <= answer.value <= answer.high
        assert math.isclose(answer.high - answer.low, 2 * MODEL.decoder.half_width, abs_tol=1e-6)
