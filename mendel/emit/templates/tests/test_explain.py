"""Why it answers so: the weights of words are what leaving them out does."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from predict import Model

FOLDER = Path(__file__).resolve().parents[1]
TEXTS: list[str] = json.loads((FOLDER / "golden.json").read_bytes())["texts"]
MODEL = Model()


def test_a_weight_is_what_the_answer_loses_without_the_word() -> None:
    for text in TEXTS[:3]:
        for told in MODEL.explain(text):
            for word in told["words"]:
                assert text[word["start"] : word["end"]] == word["word"]
                hidden = text[: word["start"]] + MODEL.decoder.hidden + text[word["end"] :]
                rows = [MODEL.outputs([t])[0] for t in (text, hidden)]
                evidence = dict(MODEL.decoder.evidence([text, hidden], rows))
                with_it, without = evidence[told["for"]]
                assert math.isclose(word["weight"], with_it - without, abs_tol=2e-3)


def test_the_weightiest_word_comes_first_and_each_comes_once() -> None:
    for text in TEXTS[:5]:
        for told in MODEL.explain(text):
            weights = [abs(word["weight"]) for word in told["words"]]
            assert weights == sorted(weights, reverse=True)
            starts = [word["start"] for word in told["words"]]
            assert len(set(starts)) == len(starts)


@pytest.mark.parametrize("text", ["", " \n", "!!", "x " * 400])
def test_any_text_can_be_explained(text: str) -> None:
    for told in MODEL.explain(text):
        assert all(math.isfinite(word["weight"]) for word in told["words"])
        assert len(told["words"]) <= 200


def test_the_command_says_why_beside_the_answer() -> None:
    argv = [sys.executable, str(FOLDER / "predict.py"), "--why", "where is it"]
    answer = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    assert answer["why"] == json.loads(json.dumps(MODEL.explain("where is it")))
