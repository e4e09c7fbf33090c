"""What answers are: spans inside their text, in order, none over another."""

from __future__ import annotations

import json
from pathlib import Path

from predict import Model

FOLDER = Path(__file__).resolve().parents[1]
TEXTS: list[str] = json.loads((FOLDER / "golden.json").read_bytes())["texts"]
MODEL = Model()


def test_spans_lie_in_their_text_in_order_and_not_over_one_another() -> None:
    for text, answer in zip(TEXTS, MODEL.predict(TEXTS), strict=True):
        end_before = 0
        for span in answer.to_dict()["spans"]:
            assert end_before <= span["start"] < span["end"] <= len(text)
            assert span["text"] == text[span["start"] : span["end"]].strip()
            assert span["label"] in MODEL.labels
            end_before = span["end"]


def test_texts_without_a_word_have_no_span() -> None:
    assert [answer.spans for answer in MODEL.predict(["", " \n"])] == [[], []]
