"""What answers are: values that the text says, of the type of their field; and records that fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from answers import requested
from predict import Model

FOLDER = Path(__file__).resolve().parents[1]
TEXTS: list[str] = json.loads((FOLDER / "golden.json").read_bytes())["texts"]
MODEL = Model()


def command(record: Path, *texts: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(FOLDER / "predict.py"), "--fits", str(record), "--", *texts]
    return subprocess.run(argv, capture_output=True, text=True)


def test_each_value_is_what_its_span_says() -> None:
    n_values = 0
    for text, answer in zip(TEXTS, MODEL.predict(TEXTS), strict=True):
        found = answer.to_dict()
        assert sorted(span["field"] for span in found["spans"]) == sorted(found["record"])
        end_before = 0
        for span in found["spans"]:
            assert end_before <= span["start"] < span["end"] <= len(text)
            assert span["text"] == text[span["start"] : span["end"]]
            field = MODEL.features.fields[span["field"]]
            assert found["record"][span["field"]] == field.read(span["text"])
            end_before = span["end"]
            n_values += 1
    assert n_values


def test_texts_without_a_word_have_an_empty_record() -> None:
    assert [answer.record for answer in MODEL.predict(["", " \n"])] == [{}, {}]


def test_what_the_model_reads_fits_and_anything_else_does_not(tmp_path: Path) -> None:
    text, answer = next(
        (t, a) for t, a in zip(TEXTS, MODEL.predict(TEXTS), strict=True) if a.record
    )
    name = next(iter(answer.record))
    given: dict[str, Any] = dict(answer.record)
    [same] = MODEL.predict([text], record=given)
    assert same.fits and {field["verdict"] for field in same.fields or []} == {"fits"}
    [less] = MODEL.predict([text], record={**given, name: None})
    assert not less.fits and "missing" in {field["verdict"] for field in less.fields or []}
    record = tmp_path / "record.json"
    record.write_text(json.dumps({**given, "no such field": 1}))
    done = command(record, text)
    assert done.returncode == 1 and not json.loads(done.stdout)["fits"]
    record.write_text(json.dumps(given))
    done = command(record, text)
    assert done.returncode == 0 and json.loads(done.stdout)["fits"]


def test_a_record_that_is_not_flat_is_refused(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    for content in ("[1]", '{"a": {"b": 1}}', "no JSON"):
        record.write_text(content)
        done = command(record, "text")
        assert done.returncode == 2 and "record.json" in done.stderr and not done.stdout
    with pytest.raises(ValueError, match="nested"):
        requested({"record": {"a": [1]}})
