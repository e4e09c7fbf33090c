"""Wrong input on the command line: one message, exit 2, nothing written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from mendel.cli import main

GOOD = "text,label\n" + "".join(f"message number {i},{'ab'[i % 2]}\n" for i in range(60))


def call(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mendel", *argv])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "data.csv"
    file.write_text(GOOD)
    return file


BAD_FILES = {
    "empty": (b"", "is empty"),
    "only a header": (b"text,label\n", "has no row to learn from"),
    "one class": (b"text,label\n" + b"hello there,a\nhow are you,a\n" * 20, "has one class only"),
    "no labels": (b"text\n" + b"hello there\nhow are you\n" * 20, "cannot tell which column"),
    "binary rubbish": (bytes(range(256)) * 40, "is not text"),
    "a zip": (b"PK\x03\x04" + bytes(200), "zip or Excel"),
    "too few rows": (b"text,label\nhello there,a\nhow are you,b\ngood,a\nbad,b\n", "at least 20"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_learned_from_is_refused(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    home: Path,
) -> None:
    content, says = BAD_FILES[name]
    file = tmp_path / "bad.csv"
    file.write_bytes(content)
    out = tmp_path / "model"
    assert call(monkeypatch, "design", "Sort", "--data", str(file), "--out", str(out), "--yes") == 2
    refused(capsys, says, out, home)


BAD_FLAGS = {
    "a model of 1 KB": (["--max-size", "1KB"], "--max-size"),
    "a second": (["--budget", "1s"], "--budget"),
    "ten parameters": (["--max-params", "10"], "--max-params"),
    "a microsecond": (["--max-latency", "1us"], "--max-latency"),
    "nothing at all": (["--max-size", "0"], "--max-size"),
    "parsecs": (["--budget", "10parsecs"], "no amount"),
    "an unknown preference": (["--prefer", "beauty"], "beauty"),
    "a column that is not there": (["--text-column", "txt"], "txt"),
    "a test file that is not there": (["--test", "nowhere.csv"], "nowhere.csv"),
}


@pytest.mark.parametrize("name", BAD_FLAGS)
def test_a_flag_that_cannot_be_met_is_refused_before_training(
    name: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    home: Path,
) -> None:
    flags, says = BAD_FLAGS[name]
    out = tmp_path / "model"
    base = ["design", "Sort", "--data", str(data), "--out", str(out), "--yes"]
    assert call(monkeypatch, *base, *flags) == 2
    refused(capsys, says, out, home)


def refused(capsys: pytest.CaptureFixture[str], says: str, out: Path, home: Path) -> None:
    import re

    said = capsys.readouterr().err
    assert re.search(says, said, re.IGNORECASE), said
    assert "Traceback" not in said
    assert not out.exists() and not (home / "runs").exists()


def test_an_occupied_folder_is_left_alone(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    code = call(monkeypatch, "design", "Sort", "--data", str(data), "--out", str(out), "--yes")
    assert code == 2 and "occupied" in capsys.readouterr().err
    assert (out / "thesis.txt").read_text() == "years of work"


def test_a_description_is_wanted(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "design", "  ", "--data", str(data), "--yes") == 2
    assert "description" in capsys.readouterr().err


def test_a_folder_without_a_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "predict", str(tmp_path), "hello") == 2
    assert "holds no emitted model" in capsys.readouterr().err


def test_a_turn_that_is_not_there_is_said_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "why", "7") == 2
    assert "turn 7" in capsys.readouterr().err


def test_every_listing_speaks_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    from mendel.driver import Driver
    from mendel.ledger import Ledger
    from tests.toy import ToyClock

    driver = Driver(ToyClock(home / "live.json", seed=3), Ledger())
    driver.start()
    for _ in range(5):
        driver.turn()
    for argv in (["log"], ["why", "1"], ["champions"], ["gc"], ["doctor"]):
        assert call(monkeypatch, *argv, "--json") == 0
        said = capsys.readouterr().out
        assert said.strip()
        for line in said.splitlines() if argv != ["doctor"] else [said]:
            json.loads(line)


def test_doctor_says_how_to_get_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else found(name)
    )
    assert call(monkeypatch, "doctor") == 0
    said = capsys.readouterr().out
    assert "without torch" in said and '".[design]"' in said


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("10m", "SECONDS", 600.0),
        ("1.5h", "SECONDS", 5400.0),
        ("90", "SECONDS", 90.0),
        ("10MB", "BYTES", 1e7),
        ("2 MiB", "BYTES", 2 * 1024.0**2),
        ("7M", "COUNT", 7e6),
        ("500us", "MILLISECONDS", 0.5),
    ],
)
def test_amounts_are_read_as_people_write_them(text: str, units: str, value: float) -> None:
    from mendel.cli import amounts

    assert amounts.parser(getattr(amounts, units), "x")(text) == pytest.approx(value)


@given(st.text(max_size=12))
def test_no_amount_breaks_the_parser(text: str) -> None:
    from mendel.cli import amounts

    try:
        assert amounts.parser(amounts.BYTES, "10MB")(text) >= 0
    except typer.BadParameter as error:
        assert "Wanted a number" in str(error)
