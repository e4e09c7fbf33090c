"""Where a run starts: what earlier runs may say, to whom, and what comes of it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from mendel.cli.screen import start_card
from mendel.clocks.design import ladder
from mendel.clocks.design.clock import DesignClock
from mendel.clocks.design.prepare import plan, prepare
from mendel.clocks.design.request import Request
from mendel.clocks.design.run import Run
from mendel.driver import Driver
from mendel.emit.report import markdown
from mendel.kinds import KINDS, Shape
from mendel.ledger import Earlier, Ledger
from mendel.parts.text.recipe import Recipe
from mendel.propose import (
    Past,
    Start,
    Traits,
    Tried,
    absolute,
    likeness,
    named,
    pasts,
    relative,
    start_from,
    traits_of,
)
from mendel.spec import Limits, TextSpec
from mendel.types import Candidate, Cost, Decision, Kind, Line, Result, Turn, Verdict

EXAMPLE = Path(__file__).parents[1] / "examples" / "support_desk" / "messages.jsonl"
SHAPE = Shape(10_000, 77, Limits(), 5)
MAKER = KINDS["classify"].builder
LOOKING_S = 500.0


def traits(**change: Any) -> Traits:
    mine = {"name": "Route questions", "kind": "classify", "n_rows": 10_000, "n_labels": 77}
    rest = {"n_folds": 5, "limits": {}, "n_words": 12.0, "unseen": 0.1, "balance": 0.97}
    return Traits.parse({**mine, **rest, **change})


def run_of(
    scores: dict[str, float], line: str = "a", told: Traits | None = None, n_folds: int = 5
) -> list[Turn]:
    """The turns of a run in which the first rung of each family had this score; bags are quick."""
    mine = told or traits()
    first = Candidate({"model": None})
    keep, where = Verdict(Decision.KEEP, ""), Line("design", line, line)
    turns = [Turn(where, Kind.START, first, Result(facts={"task": mine.to_dict()}), keep)]
    rungs = {r.family: r for r, _ in reversed(list(KINDS[mine.kind].builder.rungs(mine.shape)))}
    for family, score in scores.items():
        recipe = KINDS[mine.kind].builder.within(rungs[family], mine.shape)
        part = KINDS[mine.kind].builder.part
        model = TextSpec.parse({"part": part, "fields": recipe.to_dict()}).to_dict()
        for fold in range(n_folds):
            result = Result((score,), cost=Cost(seconds=3.0 if family == "bag" else 10.0))
            trial = {"trial": f"{line}-{family}", "round": fold}
            turns.append(
                Turn(where, Kind.TRIAL, Candidate({"model": model}), result, keep, **trial)
            )
    return turns


def families(start: Start) -> list[str]:
    return [str(step.recipe["family"]) for step in start.steps]


CNN_WON = {"keywords": 0.4, "linear": 0.85, "dual": 0.86, "bag": 0.85, "cnn": 0.92}


def test_with_an_empty_ledger_the_order_is_the_ladders_own(tmp_path: Path) -> None:
    ledger = Ledger(folder=tmp_path)
    start = start_from(traits(), pasts(Earlier(ledger, "design").turns()), LOOKING_S)
    ledger.close()
    assert start == Start() and "Nothing like this task" in start.why[0]
    tried = [c.state["model"]["fields"] for c in ladder.proposals(SHAPE, [], start)]
    assert tried == [MAKER.within(r, SHAPE).to_dict() for r, _ in MAKER.rungs(SHAPE)]


def test_what_always_won_is_tried_first_after_the_quickest_linear_model(tmp_path: Path) -> None:
    ledger = Ledger(folder=tmp_path)
    for name in ("a", "b", "c"):
        with ledger.writing(Line("design", name, name)) as connection:
            for turn in run_of(CNN_WON, name):
                ledger.append(connection, turn)
    start = start_from(traits(), pasts(Earlier(ledger, "design").turns()), LOOKING_S)
    ledger.close()
    assert families(start)[:2] == ["linear", "cnn"]
    assert "cnn" in start.why[1] and "best of 3" in start.why[1] and "+7.0 points" in start.why[1]
    candidates = list(ladder.proposals(SHAPE, [], start))
    assert candidates[1].state["model"]["fields"]["family"] == "cnn"
    assert {step.recipe["family"] for step in start.steps if step.when == "last"} == {"keywords"}
    assert candidates[-1].state["model"]["fields"]["family"] == "keywords"


def test_no_rung_is_lost_and_none_is_tried_twice() -> None:
    start = start_from(traits(n_rows=4_000), pasts(run_of(CNN_WON)), LOOKING_S)
    shape = replace(SHAPE, n_rows=4_000)
    tried = [json.dumps(c.state) for c in ladder.proposals(shape, [], start)]
    rungs = {
        json.dumps({"model": TextSpec(fields=MAKER.within(r, shape).to_dict()).to_dict()})
        for r, _ in MAKER.rungs(shape)
    }
    assert rungs <= {*tried} and len({*tried}) == len(tried)


def test_a_recipe_that_led_elsewhere_is_carried_over_and_scaled() -> None:
    small = traits(n_rows=600)
    base = MAKER.starting_point(small.shape)
    three = replace(base, copies=3, epochs=base.epochs * 3 // 2)
    turns = run_of(CNN_WON, told=small)
    model = TextSpec(fields=MAKER.within(three, small.shape).to_dict()).to_dict()
    last = turns[-1]
    turns += [
        replace(last, candidate=Candidate({"model": model}), trial="three", round=fold,
                result=Result((0.95,), cost=Cost(seconds=10.0)))
        for fold in range(5)
    ]  # fmt: skip
    start = start_from(traits(), pasts(turns), 100_000.0)
    assert start.steps[1].recipe == {"family": "dual", "copies": 3, "epochs": 1.5}
    assert absolute(MAKER, start.steps[1].recipe, SHAPE).epochs == 22  # of 15, not of 30


def test_what_cannot_be_completed_in_time_is_not_tried_first() -> None:
    earlier = pasts(run_of({**CNN_WON, "dual": 0.85, "bag": 0.90}))
    plenty, little = (start_from(traits(), earlier, s) for s in (10_000.0, 45.0))
    assert families(plenty)[1] == "cnn"
    assert families(little)[1] == "bag"  # 5 folds of cnn take longer than there is


def test_mutations_that_gained_elsewhere_come_first() -> None:
    told = traits(n_rows=600)
    base = MAKER.starting_point(told.shape)
    turns = run_of({"linear": 0.8, "dual": 0.85}, told=told)
    for copies, epochs, score in ((2, 30, 0.84), (1, 45, 0.9)):
        child = MAKER.within(replace(base, copies=copies, epochs=epochs), told.shape)
        model = {"model": TextSpec(fields=child.to_dict()).to_dict()}
        turns.append(
            replace(turns[-1], candidate=Candidate(model), trial=str(model), round=0,
                    result=Result((score,), cost=Cost(seconds=10.0)))
        )  # fmt: skip
    start = start_from(traits(), pasts(turns), LOOKING_S)
    assert start.mutations == ("half as long again in training",)  # one network more lost there
    parent = next(c for c in ladder.proposals(SHAPE, [], start) if "dual" in str(c.state))
    spec = TextSpec.parse(dict(parent.state["model"]))
    result = Result((0.9,), cost=Cost(seconds=1.0))
    turn = replace(turns[1], candidate=parent, result=result, trial="parent")
    found = [ladder.Standing(parent, spec, (turn,))]
    changed = [c.motivation for c in ladder.proposals(SHAPE, found, start) if c.links]
    assert "half as long again" in changed[0] and "one network more" in changed[1]
    assert len({*changed}) == len(MAKER.mutations)


def test_what_the_ladder_would_start_from_is_tried_early_even_where_it_lost_elsewhere() -> None:
    earlier = [past for name in "abc" for past in pasts(run_of({**CNN_WON, "dual": 0.6}, name))]
    start = start_from(traits(), earlier, LOOKING_S)
    assert [step.recipe for step in start.steps[1:3]] == [{"family": "cnn"}, {"family": "dual"}]
    assert start.steps[2].gain < -0.25 and start.steps[2].when == "first"


def test_sealed_scores_are_out_of_a_proposers_reach(tmp_path: Path) -> None:
    ledger = Ledger(folder=tmp_path)
    turns = run_of(CNN_WON)
    secret = {"accuracy": 0.123456}
    opening = replace(turns[0], kind=Kind.OPENING, sealed=secret, result=Result())
    claim = replace(turns[0], kind=Kind.CLAIM, verdict=Verdict(Decision.KEEP, "better by 0.123456"))
    with ledger.writing(turns[0].line) as connection:
        for turn in (*turns, opening, claim, replace(turns[-1], trial="x", sealed=secret)):
            ledger.append(connection, turn)
    assert len(ledger.turns()) == len(turns) + 3
    seen = Earlier(ledger, "design").turns()
    ledger.close()
    assert len(seen) == len(turns) + 1 and all(turn.sealed is None for turn in seen)
    assert "0.123456" not in repr(seen)


def test_lines_of_another_clock_are_not_seen(tmp_path: Path) -> None:
    ledger = Ledger(folder=tmp_path)
    other = Line("research", "a", "design")
    with ledger.writing(other) as connection:
        ledger.append(connection, replace(run_of(CNN_WON)[0], line=other))
    assert Earlier(ledger, "design").turns() == []
    ledger.close()


def test_evidence_of_another_kind_of_task_is_not_used() -> None:
    earlier = pasts(run_of({"linear": 0.5, "dual": 0.9}, told=traits(kind="multilabel")))
    assert len(earlier) == 1
    assert start_from(traits(), earlier, LOOKING_S) == Start()
    assert start_from(traits(kind="multilabel"), earlier, LOOKING_S).steps


def broken() -> list[tuple[str, list[Turn]]]:
    good = run_of(CNN_WON)
    begun, trials = good[0], good[1:]

    def of(task: Any) -> list[Turn]:
        return [replace(begun, result=Result(facts={"task": task})), *trials]

    strange = Candidate({"model": {"part": "text", "fields": {"family": "linear", "wings": 2}}})
    return [
        ("of a version that recorded no task", [replace(begun, result=Result()), *trials]),
        ("its start is gone", trials),
        ("its task is no task", of("nonsense")),
        ("its task lacks a field", of({"kind": "classify", "n_rows": 3})),
        ("of a kind that is not known", of(traits().to_dict() | {"kind": "paint"})),
        ("its recipes are not known", [begun, *(replace(t, candidate=strange) for t in trials)]),
        ("no state", [begun, *(replace(t, candidate=Candidate({})) for t in trials)]),
        ("all failed", [begun, *(replace(t, result=Result(error="x")) for t in trials)]),
        ("without a linear model", [t for t in good if "linear" not in t.trial]),
        ("nothing was tried", [begun]),
    ]


@pytest.mark.parametrize("turns", [t for _, t in broken()], ids=[name for name, _ in broken()])
def test_a_run_that_cannot_be_read_is_passed_over(turns: list[Turn]) -> None:
    assert pasts(turns) == []
    whole = run_of(CNN_WON, "b")
    assert [past.traits for past in pasts([*turns, *whole])] == [traits()]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(st.integers(50, 50_000), st.integers(2, 150), st.integers(300_000, 10_000_000))
def test_a_recipe_survives_being_taken_apart_and_put_together(
    kind: str, n_rows: int, n_labels: int, most: int
) -> None:
    maker = KINDS[kind].builder
    shape = Shape(n_rows, n_labels, Limits(max_params=most, max_bytes=most), 5, kind)
    for rung, _ in maker.rungs(shape):
        recipe = maker.within(rung, shape)
        assert absolute(maker, relative(maker, recipe, shape), shape) == recipe


def test_the_same_recipe_has_one_name_on_tasks_of_different_size_and_limits() -> None:
    tight = Shape(900, 150, Limits(max_params=2_000_000), 5)
    for here, there in zip(MAKER.rungs(SHAPE), MAKER.rungs(tight), strict=True):
        mine = relative(MAKER, MAKER.within(here.recipe, SHAPE), SHAPE)
        assert mine == relative(MAKER, MAKER.within(there.recipe, tight), tight)
    assert named({"family": "dual", "copies": 2, "epochs": 1.5}) == "dual (copies 2, epochs x 1.5)"


def test_gains_over_few_errors_weigh_less() -> None:
    def first(n_rows: int) -> Tried:
        told = pasts(run_of({"linear": 0.9, "cnn": 0.95}, told=traits(n_rows=n_rows)))
        return told[0].tried[1]

    assert first(10_000).gain == first(100).gain == pytest.approx(0.5)
    assert first(10_000).sure > 0.9 > 0.2 > first(100).sure


def test_a_single_lucky_recipe_is_not_believed_as_one_that_won_often() -> None:
    often = [turn for name in "abc" for turn in run_of({**CNN_WON, "cnn": 0.9}, name)]
    lucky = run_of({"linear": 0.85, "bag": 0.91}, "d", n_folds=1, told=traits(n_rows=300))
    assert families(start_from(traits(), pasts([*often, *lucky]), LOOKING_S))[1] == "cnn"


def test_tasks_are_alike_by_size_classes_length_noise_and_language() -> None:
    english = ["the card of the bank is not there", "when will the payment arrive"] * 40
    german = ["die Karte der Bank ist nicht da", "wann kommt die Zahlung an"] * 40
    labels = ["a", "b"] * 40
    mine = traits_of("Route these", SHAPE, english, labels)
    assert mine.balance == 1.0 and mine.name == "Route these" and likeness(mine, mine) == 1.0
    assert likeness(mine, traits_of("x", SHAPE, german, labels)) < 0.9
    for change in (
        {"n_rows": 100},
        {"n_labels": 2},
        {"n_words": 80.0},
        {"unseen": 0.9},
        {"balance": 0.3},
    ):
        assert likeness(traits(), traits(**change)) < 0.7 < likeness(traits(), traits())


@settings(max_examples=25)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=30))
def test_any_texts_have_traits_and_they_survive_the_ledger(texts: list[str]) -> None:
    found = traits_of("words", SHAPE, texts, ["a"] * len(texts))
    assert Traits.parse(json.loads(json.dumps(found.to_dict()))) == found
    assert 0 <= likeness(found, traits()) <= 1


# -- in a run --


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    return Request("Route messages", EXAMPLE, out=tmp_path / "model", budget_s=60)


@pytest.fixture
def earlier() -> list[Past]:
    few = traits(n_rows=600, n_labels=15, n_words=8.0)
    return pasts([t for name in "abc" for t in run_of(CNN_WON, name, few)])


def test_a_run_that_is_resumed_keeps_its_order(
    request_: Request, earlier: list[Past], tmp_path: Path
) -> None:
    ledger = Ledger(folder=tmp_path / "home")
    run = prepare(plan(request_, earlier), ledger)
    with ledger.writing(Line("design", "late", "late")) as connection:
        for turn in run_of({"linear": 0.5, "bag": 0.9}, "late"):  # what others learn meanwhile
            ledger.append(connection, turn)
    clocks = [DesignClock(Run.load(run.folder), ledger, 2e9) for _ in range(2)]
    first = [clock.propose(clock.champion(), clock.history) for clock in clocks]
    ledger.close()
    assert Run.load(run.folder).spec.start == run.spec.start and run.spec.start.steps
    assert first[0] == first[1] and first[0] is not None
    assert first[0].state["model"]["fields"]["family"] == "linear"
    shape = clocks[0].shape
    tried = list(ladder.proposals(shape, [], clocks[0].run.spec.start))
    assert tried[1].state["model"]["fields"]["family"] == "cnn"


def test_a_run_leaves_evidence_that_the_next_one_starts_from(
    request_: Request, tmp_path: Path
) -> None:
    ledger = Ledger(folder=tmp_path / "home")
    run = prepare(plan(request_), ledger)
    clock = DesignClock(run, ledger, 2e9)
    driver = Driver(clock, ledger)
    driver.start()
    for _ in range(6):  # five folds of keywords, one of linear
        driver.turn()
    told = pasts(Earlier(ledger, "design").turns())
    ledger.close()
    assert [past.traits for past in told] == [run.spec.traits]
    assert told[0].traits.shape == clock.shape
    assert [tried.family for tried in told[0].tried] == ["keywords", "linear"]
    assert told[0].tried[0].gain < 0 == told[0].tried[1].gain
    again = plan(request_, told)
    assert again.start.steps and "1 earlier run" in again.start.why[0]
    assert plan(replace(request_, cold=True)).start == Start()


def test_the_card_and_the_report_say_what_it_started_from(
    request_: Request, earlier: list[Past]
) -> None:
    start = plan(request_, earlier).start
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(start_card(start))
    shown = console.export_text()
    assert "cnn" in shown and "a known loser" in shown and "3 earlier runs" in shown
    steps = [{"name": named(step.recipe), **step.to_dict()} for step in start.steps]
    report = markdown({"start": {"why": list(start.why), "steps": steps}})
    section = report.split("## What it started from")[1].split("## ")[0]
    assert "Starts from cnn" in section and "keywords" in section
    cold = markdown({"start": {"why": list(Start().why), "steps": []}})
    assert "Nothing like this task is in the ledger" in cold


def test_a_tagger_learns_from_taggers() -> None:
    told = traits(kind="tag", n_rows=3_000, n_labels=6)
    earlier = pasts(run_of({"linear": 0.6, "lstm": 0.5, "dual": 0.7}, told=told))
    assert families(start_from(told, earlier, 5_000.0))[:2] == ["linear", "dual"]
    assert Recipe().family == "dual"  # of texts, which it is not mistaken for
