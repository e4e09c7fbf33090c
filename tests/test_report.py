"""What a report says is what was measured, and a text in it can do nothing."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.special import softmax

from mendel.emit import measure
from mendel.emit.plots import confusion_plot, coverage_plot, ladder_plot, reliability_plot
from mendel.emit.report import headline, markdown, page, write_report
from mendel.emit.sections import sections
from mendel.types import InputError

LABELS = ["cancel", "refund", "status"]
EVIL = "</td><script>alert(1)</script><img src=http://x.y/z> | *b* [a](http://x.y)\n# h\x00"
EVIL += "\u202e\ud800"
PROBS = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
Y = np.array([0, 1, 1, 2])  # the second is wrong
TEXTS = ["stop it", "money back | now", "refund", "where is it"]


def two_class(confidence: list[float], right: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Class 0 is always predicted."""
    p = np.array(confidence)
    return np.column_stack([p, 1 - p]), 1 - np.array(right)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    abstention = {"threshold": 0.6, **measure.abstention(Y, PROBS, 0.6)}
    return {
        "title": "Route messages",
        "task": {
            "description": "Route messages to a team",
            "labels": LABELS,
            "prefer": "accuracy",
            "limits": {"max_bytes": 2_000_000, "max_latency_ms": None, "max_params": None},
        },
        "status": {"verified": True, "reason": "3,080 real labels"},
        "data": {
            "rows": 13_083, "n_train": 10_003, "n_sealed": 3080, "sealed_from": "--test file",
            "provenance": "real", "near_duplicates": 41,
            "faults": [{"kind": "conflict", "count": 7, "rows": [*range(7)], "note": "kept"}],
        },
        "shipped": {
            "name": "dual-64", "family": "dual", "recipe": {"dim": 64}, "form": "int8",
            "n_params": 1_310_221, "model_bytes": 1_402_113, "oof_score": 0.919,
            "oof_se": 0.0027, "chosen": "smallest of 2", "fitted_on": "5-fold predictions",
            "trained_on": "all rows",
        },
        "sealed": {
            **measure.score(Y, PROBS, LABELS), "n": 3080, "score": 0.923, "low": 0.913,
            "high": 0.932, "opened": 1, "temperature": 1.4, "abstention": abstention,
            "confusions": measure.confusions(Y, PROBS.argmax(1), LABELS, TEXTS),
            "worst": measure.worst(Y, PROBS, LABELS, TEXTS),
            "calibration": measure.calibration(Y, PROBS, PROBS),
        },
        "baselines": [{"name": "TF-IDF", "score": 0.905, "low": 0.894, "high": 0.915,
                       "n_params": 812_000, "seconds": 3.2}],
        "claims": [{"text": "better than TF-IDF", "allowed": True, "reason": "e = 71"},
                   {"text": "better than BERT", "allowed": False, "reason": "e = 1"}],
        "latency": {"p50_ms": 0.31, "p95_ms": 0.52, "p99_ms": 0.9},
        "resources": {"model_bytes": 1_402_113, "project_bytes": 1_610_000, "peak_mb": 94.2,
                      "load_s": 0.21, "texts_per_s": 2890.1},
        "time": {"budget_s": 600, "spent_s": 412.3, "first_usable_s": 9.1,
                 "stages": [{"name": "ladder", "seconds": 322.0}]},
        "limits": [{"limit": "max_bytes", "wanted": 2_000_000, "got": 1_402_113, "met": True,
                    "note": None}],
        "ladder": [{"name": name, "family": "dual", "rounds": 5, "score": accuracy,
                    "se": 0.0028, "n_params": 1_310_221, "model_bytes": n_bytes,
                    "latency_ms": 0.5, "seconds": 90, "decision": "keep", "reason": "t = 2"}
                   for name, accuracy, n_bytes in [("linear", 0.905, 902_000),
                                                   ("dual-64", 0.919, 1_402_113)]],
        "judge": {"n_begun": 3, "n_kept": 1, "alpha": 0.05},
        "reproduce": {"command": "mendel design --seed 7", "seed": 7, "line": "design/8f/main",
                      "data_digest": "ab" * 32, "versions": {"torch": "2.13"},
                      "machine": {"cpu": "Xeon"}},
    }  # fmt: skip


@pytest.fixture(scope="module")
def html(report: dict[str, Any]) -> str:
    return page(report)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Plots are made and not drawn, which takes most of the time."""

    def plan(draw: Any, **size: float) -> str:
        draw(Figure().add_subplot())
        return "<svg></svg>"

    monkeypatch.setattr("mendel.emit.plots._svg", plan)
    return monkeypatch


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and index, those of branches too."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from leaves(item, (*path, key))


def changed(report: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(report)
    at: Any = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return made


def hostile(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return value + EVIL if isinstance(value, str) else value


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


# Numbers, by hand.


def test_a_score_counts_what_a_person_would_count() -> None:
    s = measure.score(Y, PROBS, LABELS)
    assert (s["n"], s["n_correct"], s["accuracy"]) == (4, 3, 0.75)
    cancel, refund, status = s["per_class"]
    assert cancel == {"label": "cancel", "n": 1, "precision": 0.5, "recall": 1.0, "f1": 2 / 3}
    assert (refund["precision"], refund["recall"]) == (1.0, 0.5)
    assert status["f1"] == 1.0
    assert s["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert s["low"] == pytest.approx(0.3006, abs=1e-4)  # Wilson
    assert s["high"] == pytest.approx(0.9544, abs=1e-4)


def test_a_class_that_never_occurs_is_not_scored_and_does_not_count() -> None:
    s = measure.score(Y[:3], PROBS[:3], LABELS)
    assert s["per_class"][2] == dict(label="status", n=0, precision=None, recall=None, f1=None)
    assert s["macro_f1"] == pytest.approx(2 / 3)


def test_nothing_measured_is_none_and_not_zero() -> None:
    none = np.empty((0, 3))
    s = measure.score([], none, LABELS)
    assert (s["n"], s["accuracy"], s["macro_f1"], s["low"], s["high"]) == (0, None, None, 0, 1)
    assert measure.abstention([], none, 0.5)["coverage"] is None
    assert measure.calibration([], none, none)["after"]["ece"] is None
    assert measure.fit_temperature(none, []) == 1.0


def test_calibration_error_likelihood_and_brier_score_are_those_by_hand() -> None:
    probs, y = two_class([0.9, 0.9, 0.6, 0.6], [1, 1, 1, 0])
    after = measure.calibration(y, probs, probs)["after"]
    assert [b["n"] for b in after["bins"]] == [2, 2]  # equal confidences share a bin
    assert after["ece"] == pytest.approx((2 * 0.1 + 2 * 0.1) / 4)
    assert after["nll"] == pytest.approx(-np.log([0.9, 0.9, 0.6, 0.4]).mean())
    assert after["brier"] == pytest.approx(2 * np.mean([0.01, 0.01, 0.16, 0.36]))


def test_the_bins_of_the_calibration_error_have_equal_mass() -> None:
    confidence = np.random.default_rng(0).uniform(0.5, 1, 1500)
    probs, y = two_class(confidence.tolist(), [1] * 1500)
    bins = measure.calibration(y, probs, probs)["before"]["bins"]
    assert [b["n"] for b in bins] == [100] * 15


def test_a_certain_error_has_a_finite_likelihood() -> None:
    c = measure.calibration([1], [[1.0, 0.0]], [[1.0, 0.0]])
    assert c["before"]["nll"] == pytest.approx(-np.log(1e-12))


@pytest.mark.parametrize("planted", [0.3, 1.0, 2.5])
def test_a_planted_temperature_is_recovered(planted: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (4000, 5))
    y = np.array([rng.choice(5, p=p) for p in softmax(logits, axis=1)])
    assert measure.fit_temperature(logits * planted, y) == pytest.approx(planted, rel=0.06)


def test_a_temperature_stays_in_bounds_and_is_one_where_it_makes_no_difference() -> None:
    right, wrong = [[3.0, 0.0]], [[0.0, 3.0]]
    assert measure.fit_temperature(right, [0]) == pytest.approx(0.05)
    assert measure.fit_temperature(wrong, [0]) == pytest.approx(20)
    assert measure.fit_temperature([[0.0, 0.0]], [0]) == 1.0
    assert measure.fit_temperature([[1e6, 0.0]], [0]) == 1.0  # right beyond floats at any T


@given(st.lists(st.tuples(st.integers(50, 100), st.booleans()), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_the_curve_of_abstention_begins_with_all_rows(rows: list[tuple[int, bool]]) -> None:
    probs, y = two_class([c / 100 for c, _ in rows], [int(r) for _, r in rows])
    right = (y == probs.argmax(1)).astype(int)  # at 0.5 the first class is taken
    curve = measure.abstention(y, probs, 0.0)["curve"]
    assert len(curve) <= 21
    assert curve[0]["coverage"] == 1
    assert curve[0]["accuracy"] == pytest.approx(right.mean())
    for point in curve:
        seen = measure.abstention(y, probs, point["threshold"])
        assert seen["coverage"] == pytest.approx(point["coverage"])
        assert seen["accuracy"] == pytest.approx(point["accuracy"])


def test_confusions_and_worst_errors_name_the_rows_that_went_wrong() -> None:
    assert measure.confusions(Y, PROBS.argmax(1), LABELS, TEXTS) == [
        dict(true="refund", predicted="cancel", count=1, share=0.5, example="money back | now")
    ]
    probs = np.array([[0.9, 0.1, 0.0], [0.4, 0.35, 0.25], [0.2, 0.7, 0.1]])
    found = measure.worst([1, 1, 0], probs, LABELS, ["x" * 300, "b", "c"], most=2)
    assert [(w["true"], w["predicted"], w["probability"]) for w in found] == [
        ("refund", "cancel", 0.9), ("cancel", "refund", 0.7),
    ]  # fmt: skip
    assert len(found[0]["text"]) == 200


@pytest.mark.parametrize(
    ("y", "probs"),
    [([0], [[np.nan, 1.0]]), ([0, 1], [[0.5, 0.5]]), ([2], [[0.5, 0.5]]), ([0], [0.5])],
)
def test_arrays_that_do_not_fit_are_refused(y: Any, probs: Any) -> None:
    with pytest.raises(InputError, match="Wanted"):
        measure.score(y, probs, ["a", "b"])


# What is written.


def test_the_main_number_comes_first_with_its_interval_and_n(
    report: dict[str, Any], html: str
) -> None:
    said = "Sealed accuracy 92.3 % (95 % interval 91.3 to 93.2, 3,080 messages, opened once)"
    assert headline(report) == said
    assert markdown(report).split("\n\n")[1] == f"**{said}**"
    assert said in html


def test_a_report_that_is_not_verified_says_so_first(
    report: dict[str, Any], quick: pytest.MonkeyPatch
) -> None:
    assert "UNVERIFIED" not in markdown(report) + page(report)
    for status in ({"verified": False, "reason": "12 labels"}, {"verified": None}, {}, None):
        unverified = report | {"status": status}
        assert markdown(unverified).split("\n\n")[1].startswith("> **UNVERIFIED**")
        assert "<strong>UNVERIFIED</strong>" in page(unverified)


def test_only_claims_that_the_judge_allowed_may_be_said(report: dict[str, Any]) -> None:
    rows = [line for line in markdown(report).splitlines() if "better than" in line]
    assert "may be said" in rows[0]
    assert "not shown" in rows[1]


def test_classes_are_listed_worst_first_and_folded_away_when_many(report: dict[str, Any]) -> None:
    rows = [dict(label=f"c{i}", n=9, precision=0.5, recall=0.5, f1=i / 40) for i in range(40)]
    many = markdown(changed(report, ("sealed", "per_class"), rows[::-1]))
    assert re.findall(r"^\| c(\d+) ", many, re.M) == [str(i) for i in range(40)]
    assert "<details><summary>all 40 rows</summary>\n\n| Class" in many
    assert "<details>" not in markdown(report)


def test_a_number_is_aligned_however_narrow_its_column(report: dict[str, Any]) -> None:
    rows = [dict(label="c", n=9, precision=None, recall=None, f1=None)]
    lines = markdown(changed(report, ("sealed", "per_class"), rows)).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| Class"))
    assert "| -: |" in lines[at + 1]
    assert not [line for line in lines if "| : |" in line]


def test_the_same_report_gives_the_same_bytes(
    report: dict[str, Any], html: str, tmp_path: Path
) -> None:
    write_report(copy.deepcopy(report), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == html.encode()
    assert (tmp_path / "report.md").read_bytes() == markdown(report).encode()


def test_the_json_is_the_report_as_given_and_finite(
    report: dict[str, Any], quick: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    more = report | {"extra": [np.float32(0.5), float("nan"), np.inf, "\ud800"]}
    write_report(more, tmp_path)
    read = json.loads((tmp_path / "report.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert read == report | {"extra": [0.5, None, None, "\ud800"]}


def test_four_plots_are_drawn_inside_the_page(html: str) -> None:
    assert html.count("<figure><svg viewBox=") == 4
    assert ">dual-64 (shipped)</text>" in html


def test_a_page_loads_nothing_and_runs_nothing(html: str) -> None:
    seen = Tags(html)
    assert not {"script", "link", "img", "iframe", "object", "image", "base"} & set(seen.tags)
    for name, value in seen.attributes:
        assert name not in ("src", "srcset", "action", "data", "background", "ping")
        assert not name.startswith("on")
        if name in ("href", "xlink:href"):
            assert value.startswith("#")
    assert "://" not in html
    assert not re.search(r"@import|url\((?!#)", html)


def test_hostile_texts_add_no_tag_and_no_attribute_to_the_page(
    report: dict[str, Any], html: str
) -> None:
    evil = page(hostile(report))
    seen, safe = Tags(evil), Tags(html)
    assert set(seen.tags) == set(safe.tags)
    assert {name for name, _ in seen.attributes} == {name for name, _ in safe.attributes}
    assert seen.tags.count("td") == safe.tags.count("td")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e\ud800]", evil)
    assert "‹U+202E›" in evil


def test_hostile_texts_stay_in_their_cell_of_the_markdown(report: dict[str, Any]) -> None:
    evil, safe = markdown(hostile(report)), markdown(report)
    bare = r"(?<!\\)\|"  # not escaped
    prose = [
        [line for line in md.splitlines() if not line.startswith("    ")] for md in (evil, safe)
    ]
    shapes = [[len(re.findall(bare, line)) for line in lines] for lines in prose]
    assert shapes[0] == shapes[1]
    assert len([line for line in prose[0] if line.startswith("#")]) == len(
        [line for line in prose[1] if line.startswith("#")]
    )
    shown = "\n".join(prose[0])
    assert "<script" not in shown
    assert "://" not in shown
    assert not re.search(r"(?<!\\)\[", shown)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e\ud800]", evil)


def test_any_part_may_be_missing(report: dict[str, Any]) -> None:
    for path in leaves(report):
        assert markdown(changed(report, path, None)).startswith("# ")


def test_any_part_of_what_is_plotted_may_be_missing(
    report: dict[str, Any], quick: pytest.MonkeyPatch
) -> None:
    sealed = report["sealed"]
    plots: list[tuple[Any, dict[str, Any]]] = [
        (reliability_plot, {"sealed": {"calibration": sealed["calibration"]}}),
        (coverage_plot, {"sealed": {"abstention": sealed["abstention"]}}),
        (confusion_plot, {"sealed": {k: sealed[k] for k in ("confusions", "per_class")}}),
        (ladder_plot, {"ladder": report["ladder"], "shipped": {"name": "linear"}}),
    ]
    for plot, part in plots:
        assert plot(part) == "<svg></svg>"
        for path in leaves(part):
            assert plot(changed(part, path, None)) in ("", "<svg></svg>")


def test_an_empty_report_says_that_nothing_was_measured(tmp_path: Path) -> None:
    write_report({}, tmp_path)
    assert "Sealed accuracy: not measured" in (tmp_path / "report.md").read_text()
    assert "Not measured." in (tmp_path / "report.html").read_text()
    assert "<svg" not in (tmp_path / "report.html").read_text()


@given(words=st.text(max_size=60))
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text_can_be_written(
    words: str, report: dict[str, Any], quick: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    named = json.loads(json.dumps(report).replace('"refund"', json.dumps(words)))
    write_report(named | {"title": words, "status": {"reason": words}}, tmp_path)
    html = Tags((tmp_path / "report.html").read_text("utf-8"))
    assert not {"script", "img", "b", "a"} & set(html.tags)
    assert (html.tags.count("h1"), html.tags.count("h2")) == (1, len(sections(report)))


@given(words=st.text(max_size=30))
@settings(max_examples=5, deadline=None)
@example("$\\frac{")
@example("<b>&lt;]]>-->{}%s")
@example("\u65e5\u672c\u8a9e\u0000\ud800")
def test_any_label_can_be_drawn(words: str) -> None:
    pair = {"true": words, "predicted": f"{words}2", "count": 3}
    svg = confusion_plot({"sealed": {"confusions": [pair]}})
    assert set(Tags(svg).tags) <= {"svg", "g", "defs", "path", "text", "clippath", "rect", "use"}
    assert svg.count(">3</text>") == 1


@given(words=st.text(max_size=80))
@settings(max_examples=40, deadline=None)
def test_any_text_stays_one_cell_of_a_table(words: str, report: dict[str, Any]) -> None:
    baselines = [{"name": words, "score": 0.5}]
    lines = markdown(report | {"baselines": baselines}).splitlines()
    at = next(i for i, line in enumerate(lines) if "(this model)" in line)
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", lines[at + 1])) == 6
    assert lines[at + 2] == ""
