"""Promotions are turns: what is live is what the ledger says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mendel.clocks.tune.clock import promoted
from mendel.clocks.tune.session import Tuner
from mendel.ledger import Ledger
from mendel.rows import replay
from mendel.spec import PlanSpec
from mendel.types import Decision, InputError, Kind
from tests.tune_machine import COSTS, PLANS, mixed, run

MODEL = "5" * 64
MENU = {
    plan.name: plan
    for plan in (
        PlanSpec(),
        PlanSpec(draft="lookup", n_draft=4),
        PlanSpec(draft="lookup", n_draft=8),
        PlanSpec(draft="shallow", n_draft=4, depth=2),
        PlanSpec(threads=2),
        PlanSpec(draft="lookup", n_draft=8, threads=2),
    )
}


def test_the_menu_is_the_machines() -> None:
    assert tuple(MENU) == PLANS
    assert all(set(row) == set(PLANS) for row in COSTS.values())


def test_what_is_live_is_the_champion_is_the_replay_of_the_turns(ledger: Ledger) -> None:
    tuner = Tuner(ledger, MODEL, MENU, chance=1)
    run(tuner.chooser, mixed(1200, 1), seed=1, tick=tuner.tick)
    turns = ledger.turns(tuner.clock.line)
    kept = [turn for turn in turns if turn.verdict.keep and turn.kind is Kind.TRIAL]
    assert kept
    champion = ledger.champion(tuner.clock.line)
    assert champion is not None
    assert champion == replay(turns)[tuner.clock.line]
    named = champion.candidate.state["plans"]
    assert {name: tuner.chooser.live()[name] for name in named} == named
    assert tuner.digest == champion.candidate.id
    tuner.close()


def test_a_promotion_says_what_for_and_why(ledger: Ledger) -> None:
    tuner = Tuner(ledger, MODEL, MENU, chance=1)
    run(tuner.chooser, ["copy"] * 600, seed=1, tick=tuner.tick)
    tuner.close()
    plan = next(iter(set(tuner.chooser.live().values())))
    turn = promoted(ledger, plan)
    assert turn is not None
    assert plan in turn.verdict.reason
    assert turn.result.facts["sure"] >= 0.8
    chain = ledger.why(turn.id)
    assert chain[0].kind is Kind.START
    assert chain[-1].id == turn.id
    assert promoted(ledger, "lookup-15") is None


def test_looks_in_vain_are_one_turn_a_batch(ledger: Ledger) -> None:
    tuner = Tuner(ledger, MODEL, MENU, chance=1)
    run(tuner.chooser, mixed(2500, 1), seed=1, tick=tuner.tick)
    tuner.close()
    turns = ledger.turns(tuner.clock.line, kinds=[Kind.TRIAL])
    lost = [turn for turn in turns if turn.verdict.decision is Decision.DISCARD]
    looks = sum(turn.result.facts["n_looks"] for turn in lost)
    explored = tuner.chooser.arms["explored"]
    assert 1 <= len(lost) <= explored // 200 + 1
    # those at a plan that was promoted meanwhile count as chosen
    assert 0.9 * explored <= looks <= explored
    assert not any(turn.verdict.keep and "to" not in turn.result.facts for turn in turns)


def test_a_server_starts_with_the_plans_that_the_last_one_ended_with(ledger: Ledger) -> None:
    first = Tuner(ledger, MODEL, MENU, chance=1)
    run(first.chooser, mixed(1200, 1), seed=1, tick=first.tick)
    first.close()
    again = Tuner(ledger, MODEL, MENU)
    assert again.chooser.live() == first.chooser.live()
    frozen_digest = again.digest
    again.close()
    frozen = Tuner(ledger, MODEL, MENU, "deterministic")
    assert frozen.digest == frozen_digest
    assert frozen.chooser.live() == again.chooser.live()
    before = len(ledger.turns())
    run(frozen.chooser, mixed(300, 2), tick=frozen.tick)
    frozen.close()
    assert len(ledger.turns()) == before


def test_two_servers_of_one_model_have_lines_of_their_own(ledger: Ledger) -> None:
    one = Tuner(ledger, MODEL, MENU)
    two = Tuner(ledger, MODEL, MENU)
    assert one.clock.line.task == two.clock.line.task
    assert one.clock.line != two.clock.line
    one.close()
    two.close()


def test_a_rolled_back_champion_is_live_again(ledger: Ledger) -> None:
    tuner = Tuner(ledger, MODEL, MENU, chance=1)
    run(tuner.chooser, ["copy"] * 600, seed=1, tick=tuner.tick)
    assert set(tuner.chooser.live().values()) != {"plain"}
    [start] = ledger.turns(tuner.clock.line, kinds=[Kind.START])
    tuner.driver.roll_back(start.id, "by hand")
    assert set(tuner.chooser.live().values()) == {"plain"}
    tuner.close()


def test_no_plans_are_refused(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="no plans"):
        Tuner(ledger, MODEL, {})


def test_the_status_tells_of_each_class(ledger: Ledger) -> None:
    tuner = Tuner(ledger, MODEL, MENU, chance=1)
    run(tuner.chooser, mixed(600, 1), seed=1, tick=tuner.tick)
    told = tuner.status()
    assert told["on"] and told["baseline"] == "plain"
    assert set(told["classes"]) == set(tuner.chooser.live())
    assert all(set(row["ms_per_unit"]) == set(MENU) for row in told["classes"].values())
    assert told["controller_us"] > 0
    tuner.close()


def test_why_tells_how_a_plan_came_to_be_live(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    from mendel.cli.ledger import why

    told = Ledger()
    tuner = Tuner(told, MODEL, MENU, chance=1)
    run(tuner.chooser, ["copy"] * 600, seed=1, tick=tuner.tick)
    tuner.close()
    told.close()
    plan = next(iter(set(tuner.chooser.live().values())))
    why(plan, as_json=True)
    assert plan in capsys.readouterr().out.splitlines()[-1]
    with pytest.raises(InputError, match="lookup-15"):
        why("lookup-15")
