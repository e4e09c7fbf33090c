"""mendel research report: what it says is what the ledger holds, and the page draws it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mendel.cli import app
from mendel.clocks.research.rates import rate, words
from mendel.clocks.research.report import gathered, lines, page
from mendel.ledger import Ledger
from mendel.types import Candidate, Decision, InputError, Kind, Line, Result, Turn, Verdict
from tests.research_turns import append, begun, filled, made_recipe, trial

CHROMIUM = next(
    (w for w in ("chromium", "google-chrome", "chromium-browser") if shutil.which(w)), ""
)


def test_a_report_counts_what_the_ledger_holds(ledger: Ledger) -> None:
    line, start = begun(ledger)
    parent = trial(ledger, line, made_recipe(), start, stage="screen")
    trial(ledger, line, made_recipe(2e-3), start, stage="race", gain=-0.1)
    kept = trial(
        ledger, line, made_recipe(beta_max=2.0), start, stage="confirm", gain=0.1, keep=True,
        links=(f"turn:{parent.id}", "note:signed"),
    )  # fmt: skip
    found = gathered(ledger)
    assert found["counts"] == {
        "trials": 3, "cut by the race": 1, "screened": 1, "confirmed on fresh seeds": 1,
        "failed": 0, "kept by the judge": 1,
    }  # fmt: skip
    row = found["trials"][2]
    assert (row["k"], row["p"], row["n"], row["win"]) == (kept.id, [parent.id], ["signed"], True)
    assert row["diff"] == ["mixers.0.beta_max: 1 -> 2"]
    assert row["worse"] == {
        "word_z60": pytest.approx(0.1),
        "overwritten_recall": pytest.approx(0.1),
    }
    assert found["hours"] == pytest.approx(3 * 36 / 3600)
    assert found["wins"]["at"] == [pytest.approx(0.03)]
    assert found["shares"]["notes"] == 1


def test_a_trial_whose_rounds_go_on_is_one_row_with_all_its_seconds(ledger: Ledger) -> None:
    line, start = begun(ledger)
    first = trial(ledger, line, made_recipe(2e-3), start)
    second = Turn(
        line, Kind.TRIAL, first.candidate, first.result, Verdict(Decision.DISCARD, "not shown"),
        start.id, first.trial, 1,
    )  # fmt: skip
    told = append(ledger, second)
    row = gathered(ledger)["trials"][0]
    assert (row["k"], row["ids"], row["s"]) == (told.id, [first.id, told.id], 72.0)
    assert row["rounds"] == [first.verdict.reason]


def test_the_interval_of_a_rate_is_the_exact_one_of_a_count() -> None:
    none, ten = rate([], 2.0), rate([0.1 * i for i in range(10)], 2.0)
    assert (none.rate, none.low) == (0, 0)
    assert none.high == pytest.approx(3.689 / 2, abs=1e-3)  # Garwood's table
    assert (ten.rate, ten.low, ten.high) == pytest.approx((5.0, 4.795 / 2, 18.390 / 2), abs=1e-3)


def test_wins_are_above_the_band_of_luck_only_where_the_intervals_part(ledger: Ledger) -> None:
    filled(ledger, 40, "real", every=4)
    filled(ledger, 40, "luck", every=100, null=True)
    found = gathered(ledger, "real")
    assert (found["wins"]["n"], found["null"]["n"]) == (10, 0)
    assert words(found["wins"], found["null"])[1].endswith("above the band of luck")
    assert words(found["null"], found["null"])[1].endswith("not told apart from luck")


def test_a_null_line_whose_newest_trial_failed_is_still_one(ledger: Ledger) -> None:
    line, start = begun(ledger, "luck")
    trial(ledger, line, made_recipe(), start, null=True)
    candidate = Candidate(made_recipe(2e-3).to_dict(), "mutate: diverges")
    failed = Result(error="diverged at step 3")
    append(ledger, Turn(
        line, Kind.TRIAL, candidate, failed, Verdict(Decision.DISCARD, "failed"), start.id, "x", 0
    ))  # fmt: skip
    assert gathered(ledger, "luck")["null"] is not None
    other, beside = begun(ledger, "real", Line("research", line.task, "real"))
    trial(ledger, other, made_recipe(), beside)
    with_both = gathered(ledger)
    assert with_both["line"].endswith("real") and with_both["null"]["hours"] > 0


def test_the_newest_line_is_shown_and_a_null_line_only_where_it_is_asked_for(
    ledger: Ledger,
) -> None:
    filled(ledger, 2, "one")
    filled(ledger, 3, "two")
    filled(ledger, 4, "luck", null=True)
    assert gathered(ledger)["line"].endswith("two")
    assert gathered(ledger, "one")["counts"]["trials"] == 2
    assert gathered(ledger, "luck")["is_null"]
    with pytest.raises(InputError, match="'three'"):
        gathered(ledger, "three")


def test_no_sealed_score_is_in_a_report(ledger: Ledger) -> None:
    line, start = begun(ledger)
    turn = trial(ledger, line, made_recipe(2e-3), start, stage="confirm", gain=0.1, keep=True)
    told = {
        "verified": turn.id,
        "outcome": "trade",
        "conditions": {"as found": {"designs": 3, "pairs": 4}},
    }
    append(
        ledger,
        Turn(
            line, Kind.CLAIM, Candidate(turn.candidate.state), Result(facts=told),
            Verdict(Decision.DISCARD, "trade: as found"), turn.id,
            sealed={"score": {"as found": {"the recipe": [{"parity_twin": 0.987654321}]}}},
        ),
    )  # fmt: skip
    found = gathered(ledger)
    assert found["verified"][0]["outcome"] == "trade"
    for text in (json.dumps(found), page(found), "\n".join(lines(found))):
        assert "0.98765" not in text


def test_words_of_a_motivation_cannot_break_out_of_the_page(ledger: Ledger) -> None:
    line, start = begun(ledger)
    bad = "</script><img src=x onerror=alert(1)>"
    trial(ledger, line, made_recipe(2e-3), start, motivation=bad, keep=True)
    text = page(gathered(ledger))
    assert bad not in text and "<img" not in text
    stored = re.search(r'id="data">(.*?)</script>', text, re.S)
    assert stored and json.loads(stored[1])["trials"][0]["m"] == bad


def test_the_page_loads_nothing_from_elsewhere(ledger: Ledger) -> None:
    filled(ledger, 3)
    text = page(gathered(ledger))
    assert "default-src 'none'" in text
    addresses = [
        a for a in re.findall(r"https?://[^\s\"']+", text) if a != "http://www.w3.org/2000/svg"
    ]
    assert not addresses and not re.search(r"<(link|img|iframe)|\bsrc=|@import|url\(", text)


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
def test_the_page_draws_its_plots_and_tree_in_a_browser(ledger: Ledger, tmp_path: Path) -> None:
    filled(ledger, 60, every=10)
    file = tmp_path / "report.html"
    file.write_text(page(gathered(ledger)), encoding="utf-8")
    dom = shown(file, tmp_path)
    assert 'data-ready="' in dom
    for name in ("wins", "best", "pareto"):
        assert re.search(rf'data-draw="{name}"><svg', dom), name
    assert re.search(r'data-draw="regressions"[^>]*><table', dom)
    assert dom.count('class="kept"') == 6  # the paths to wins are open
    assert "fitted: a constant rate" in dom


def shown(file: Path, folder: Path) -> str:
    """The page as a browser has it after its script, in a window as high as the page."""
    argv = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,9000",
        f"--user-data-dir={folder / 'browser'}", "--virtual-time-budget=3000",
        "--run-all-compositor-stages-before-draw", "--dump-dom",
        file.as_uri(),
    ]  # fmt: skip
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout


def test_the_commands_report_and_diff_tell_people_and_machines(
    ledger: Ledger, tmp_path: Path
) -> None:
    line, start = begun(ledger)
    turn = trial(ledger, line, made_recipe(beta_max=2.0), start)
    done = CliRunner().invoke(app, ["research", "report", "--html", str(tmp_path / "new/r.html")])
    assert done.exit_code == 0, done.output
    assert "1 trials" in done.output and "no verified win" in done.output
    assert (tmp_path / "new/r.html").read_text().startswith("<!doctype html>")
    told = CliRunner().invoke(app, ["research", "report", "--json"])
    assert json.loads(told.output)["counts"]["trials"] == 1
    done = CliRunner().invoke(app, ["research", "diff", str(turn.id)])
    assert done.output.splitlines() == [
        f"turn {start.id} -> turn {turn.id}", "  mixers.0.beta_max: 1 -> 2",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_report_of_2000_trials_is_a_small_page(ledger: Ledger) -> None:
    filled(ledger, 2000)
    text = page(gathered(ledger))
    assert len(text) < 4_000_000
