"""What answers are: passages of the documents, best first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from answers import requested
from predict import Model

FOLDER = Path(__file__).resolve().parents[1]
TEXTS: list[str] = json.loads((FOLDER / "golden.json").read_bytes())["texts"]
MODEL = Model()


def test_passages_come_best_first_with_their_place() -> None:
    for answer in MODEL.predict(TEXTS, top=10):
        found = answer.to_dict()["passages"]
        assert len(found) <= 10
        scores = [passage["score"] for passage in found]
        assert scores == sorted(scores, reverse=True)
        for passage in found:
            first, last = passage["lines"]
            start, end = passage["characters"]
            assert 1 <= first <= last and 0 <= start < end and passage["score"] >= 0
            assert passage["file"] and passage["text"].strip()


def test_the_words_of_a_passage_find_it() -> None:
    passages = MODEL.decoder.passages
    asked = list(range(0, len(passages), max(len(passages) // 20, 1)))
    answers = MODEL.predict([passages[i].text for i in asked], top=10)
    pairs = zip(asked, answers, strict=True)
    found = [any(p.text == passages[i].text for _, p, _ in a.found) for i, a in pairs]
    assert sum(found) >= 0.8 * len(asked)


def test_fewer_passages_are_the_first_of_more() -> None:
    few, more = (MODEL.predict(TEXTS, top=top) for top in (1, 5))
    assert [a.found for a in few] == [a.found[:1] for a in more]


def test_a_text_without_a_word_finds_nothing() -> None:
    assert [answer.found for answer in MODEL.predict(["", " \n", "?!"])] == [[], [], []]


def test_a_request_may_ask_for_a_number_of_passages() -> None:
    assert requested({"top": 7}) == {"top": 7}
    for odd in (0, 1_000, "3", True):
        with pytest.raises(ValueError, match="top"):
            requested({"top": odd})
