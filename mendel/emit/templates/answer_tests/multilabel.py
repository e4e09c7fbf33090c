"""What answers are: the labels above their cuts."""

from __future__ import annotations

import json
from pathlib import Path

from predict import Model

FOLDER = Path(__file__).resolve().parents[1]
TEXTS: list[str] = json.loads((FOLDER / "golden.json").read_bytes())["texts"]
MODEL = Model()


def test_a_label_is_given_exactly_where_its_probability_is_above_a_half() -> None:
    for answer in MODEL.predict(TEXTS):
        assert list(answer.probabilities) == MODEL.labels
        assert set(answer.labels) == {x for x, p in answer.probabilities.items() if p > 0.5}
        shares = [answer.probabilities[label] for label in answer.labels]
        assert all(0 <= p <= 1 for p in shares)
