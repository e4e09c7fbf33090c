"""mendel research replay, export, diff, and mendel why: on turns that were really measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mendel.cli import app
from mendel.clocks.research.clock import ResearchClock
from mendel.clocks.research.replay import replay
from mendel.clocks.research.report import gathered
from mendel.clocks.research.run import Run
from mendel.clocks.research.suite import Suites
from mendel.driver import Driver
from mendel.ledger import Ledger
from mendel.propose.matching import caps_of, matched
from mendel.rows import as_champion
from mendel.spec import Recipe
from mendel.types import InputError, Kind, Trial, Turn

from . import research_toy as toy
from .research_turns import append, begun, made_recipe, trial

pytestmark = pytest.mark.usefixtures("one_thread")
SUITES = Suites(names=("states",), share=0.005)  # two steps of each task: real, and quick


@pytest.fixture(scope="module")
def measured_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with a line whose first round and whose confirmation were measured for real."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MENDEL_HOME", str(folder))
        ledger = Ledger()
        caps = caps_of(made_recipe(), SUITES.vocab, SUITES.n_tokens)
        start, other = (_fitted(made_recipe(lr), caps) for lr in (3e-3, 2e-3))
        run = Run.create(ledger, toy.spec(suites=SUITES, caps=caps, start=start, trials=1))
        clock = ResearchClock(run, ledger, toy.Listed(other))
        driver = Driver(clock, ledger)
        driver.start()
        assert driver.turn() is not None
        (first,) = ledger.turns(run.line, kinds=[Kind.TRIAL])
        champion = as_champion(ledger.turn(first.champion))
        confirming = Trial(first.trial, run.line, first.candidate, champion, (first.result,), 0.01)
        append(ledger, replace(first, id=0, round=1, result=clock.trial(confirming)))
        ledger.close()
    return folder


@pytest.fixture
def told(
    measured_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Ledger, list[Turn]]]:
    """It, and its two turns."""
    monkeypatch.setenv("MENDEL_HOME", str(measured_home))
    ledger = Ledger()
    yield ledger, ledger.turns(kinds=[Kind.TRIAL])[:2]
    ledger.close()


def _fitted(recipe: Recipe, caps: object) -> Recipe:
    found = matched(recipe, caps)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_a_round_measured_again_gives_the_same_scores_and_writes_nothing(
    told: tuple[Ledger, list[Turn]],
) -> None:
    ledger, turns = told
    before = files(ledger.folder / "research"), len(ledger.turns())
    for turn in turns:
        found = replay(turn.id, ledger)
        assert turn.result.error is None and found.same and found.furthest == 0.0
    assert turns[1].result.scores != turns[0].result.scores  # other seeds
    assert (files(ledger.folder / "research"), len(ledger.turns())) == before


def files(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_the_command_says_where_a_turn_and_its_replay_differ(
    told: tuple[Ledger, list[Turn]],
) -> None:
    ledger, (first, _) = told
    scores = tuple(score + 0.25 for score in first.result.scores)
    result = replace(first.result, scores=scores)
    forged = append(ledger, replace(first, id=0, trial="forged", result=result))
    good = CliRunner().invoke(app, ["research", "replay", str(first.id)])
    assert good.exit_code == 0 and "the same scores" in good.output
    bad = CliRunner().invoke(app, ["research", "replay", str(forged.id)])
    assert bad.exit_code == 1 and "they differ, by 0.25 at most" in bad.output


def test_what_measured_nothing_cannot_be_replayed(ledger: Ledger) -> None:
    line, start = begun(ledger)
    with pytest.raises(InputError, match="no round"):
        replay(start.id, ledger)
    with pytest.raises(InputError, match="is not in"):
        replay(trial(ledger, line, made_recipe(), start).id, ledger)


def test_a_report_of_real_trials_has_their_costs_curves_and_verdicts(
    told: tuple[Ledger, list[Turn]],
) -> None:
    ledger, (first, second) = told
    found = gathered(ledger)
    row = found["trials"][0]
    assert row["ids"] == [first.id, second.id] and row["stage"] == "confirm"
    assert row["s"] == pytest.approx(
        sum(turn.result.cost.seconds for turn in (first, second)), rel=1e-4
    )
    assert set(row["curves"]) == {leg.name for leg in SUITES.confirm}
    assert row["c"][0] == first.result.facts["n_params"] and row["audit"] == "clean"
    assert row["diff"] == ["train.lr: 0.003 -> 0.002"]


def test_why_tells_parents_notes_changes_measurements_and_verdict(ledger: Ledger) -> None:
    line, start = begun(ledger)
    parent = trial(ledger, line, made_recipe(), start, motivation="the parent's reason")
    turn = trial(
        ledger, line, made_recipe(beta_max=2.0), start, gain=0.1, motivation="track parity",
        links=(f"turn:{parent.id}", "note:negative-eigenvalues"),
    )  # fmt: skip
    done = CliRunner().invoke(app, ["why", str(turn.id)])
    assert done.exit_code == 0, done.output
    for words in (
        "motivation: track parity",
        f"parent: turn {parent.id}, the parent's reason",
        "note: negative-eigenvalues",
        f"differs from turn {parent.id}: mixers.0.beta_max: 1 -> 2",
        "screen: 0.6000 beside 0.5000 of the champion, 4 seeds",
        "verdict: discard",
        "audit: clean (cached)",
        "bytes of state",
    ):
        assert words in done.output, words


def test_diff_and_export_take_turns_ids_presets_and_files(ledger: Ledger, tmp_path: Path) -> None:
    line, start = begun(ledger)
    turn = trial(ledger, line, made_recipe(beta_max=2.0), start)
    file = tmp_path / "mine.toml"
    file.write_text(made_recipe(1e-3).to_toml())
    for one, other, words in (
        (str(start.id), turn.candidate.id[:8], "beta_max: 1 -> 2"),
        (str(start.id), str(file), "train.lr: 0.003 -> 0.001"),
        ("modern", "hybrid", "mixers:"),
    ):
        done = CliRunner().invoke(app, ["research", "diff", one, other])
        assert done.exit_code == 0 and words in done.output, done.output
    done = CliRunner().invoke(app, ["research", "export", str(turn.id), str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "erase what it reads" in (tmp_path / "out" / "model.py").read_text()


@pytest.mark.parametrize("word", ["nobody", "abc", "99999"])
def test_what_names_no_recipe_is_refused_with_a_way_on(ledger: Ledger, word: str) -> None:
    done = CliRunner().invoke(app, ["research", "diff", word])
    assert done.exit_code != 0 and isinstance(done.exception, Exception)
    assert "lists" in str(done.exception)


def test_a_candidate_without_a_parent_is_compared_with_the_champion_that_it_met(
    ledger: Ledger,
) -> None:
    line, start = begun(ledger)
    champion = trial(ledger, line, made_recipe(2e-3), start, keep=True)
    turn = trial(ledger, line, made_recipe(1e-3), champion)
    done = CliRunner().invoke(app, ["research", "diff", str(turn.id)])
    assert f"turn {champion.id} -> turn {turn.id}" in done.output
    assert "train.lr: 0.002 -> 0.001" in done.output


def test_the_help_names_what_is_taken_where_nothing_is_said() -> None:
    wide = {"COLUMNS": "300"}
    said = CliRunner().invoke(app, ["research", "--help"], env=wide).output
    words = " ".join(said.replace("│", " ").split())
    for default in ("Default: states,recall.", "Default: seconds.", "Default: builtin.", "[1h]"):
        assert default in words
