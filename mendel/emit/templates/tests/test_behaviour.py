"""Changed texts: each change does what it is called, and what cannot matter does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from behaviour import CHANGES, behaviour, changed
from predict import Model

FOLDER = Path(__file__).resolve().parents[1]
TEXTS: list[str] = json.loads((FOLDER / "golden.json").read_bytes())["texts"]
MODEL = Model()
KEPT_LETTERS = ("lower case", "upper case", "punctuation added", "white space added")


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_the_same_each_time_and_leaves_the_second_text_alone(name: str) -> None:
    for text in TEXTS:
        assert changed(name, text) == changed(name, text)
        second = text.partition("\t")[2]
        assert changed(name, text).partition("\t")[2] == second


@pytest.mark.parametrize("name", KEPT_LETTERS)
def test_these_changes_keep_every_letter(name: str) -> None:
    for text in ("Where is my card, please?", "Is it 10:30 or not"):
        letters = [char for char in text.casefold() if char.isalnum()]
        assert [char for char in changed(name, text).casefold() if char.isalnum()] == letters


def test_a_typo_is_one_letter_of_one_word() -> None:
    assert changed("a letter left out", "transfer") in {
        "transfer"[:i] + "transfer"[i + 1 :] for i in range(8)
    }
    assert sorted(changed("two letters swapped", "transfer")) == sorted("transfer")
    other = changed("a wrong key", "transfer")
    assert sum(a != b for a, b in zip(other, "transfer", strict=True)) == 1
    assert changed("a wrong key", "a to it") == "a to it"  # no word is long enough


def test_white_space_does_not_change_an_answer() -> None:
    [row] = [row for row in behaviour(MODEL, TEXTS) if row["name"] == "white space added"]
    assert row["n_same"] == row["n"] > 0, row["failures"]


def test_shares_are_of_the_texts_that_a_change_altered_and_failures_are_shown() -> None:
    for row in behaviour(MODEL, TEXTS):
        altered = sum(changed(row["name"], text) != text for text in TEXTS)
        assert row["n"] == altered
        assert len(row["failures"]) == min(3, row["n"] - row["n_same"])
        assert all(failure["text"] in TEXTS for failure in row["failures"])


def test_the_command_reads_texts_from_stdin() -> None:
    argv = [sys.executable, str(FOLDER / "behaviour.py"), "--json", "--stdin"]
    done = subprocess.run(argv, input=json.dumps(TEXTS[:5]).encode(), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(behaviour(MODEL, TEXTS[:5])))
