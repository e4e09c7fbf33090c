"""The loop: leases, repeats, failures, crashes. Each test is named after what it claims."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from mendel.driver import Driver
from mendel.ledger import Ledger
from mendel.rows import replay
from mendel.types import (
    Account,
    Candidate,
    Champion,
    Decision,
    InputError,
    Kind,
    LedgerError,
    Result,
    Trial,
    Verdict,
)
from tests.killing import fork, kill_self_at_line
from tests.toy import ToyClock

OURS = ("driver.py", "ledger.py", "schema.py", "rows.py", "blobs.py", "live.py", "toy.py")

N_KILLS = 100


@pytest.fixture
def clock(home: Path) -> ToyClock:
    return ToyClock(home / "live.json", seed=1)


def test_the_toy_clock_climbs_and_the_ledger_remembers_each_turn(
    clock: ToyClock, ledger: Ledger
) -> None:
    driver = Driver(clock, ledger)
    driver.start()
    for _ in range(20):
        driver.turn()
    assert len(ledger.turns(clock.line)) == 21
    assert_sound(clock, ledger)
    assert clock.champion().candidate.state["x"] > 3


def test_a_repeated_tell_returns_the_same_verdict_and_writes_nothing(
    clock: ToyClock, ledger: Ledger
) -> None:
    driver = Driver(clock, ledger)
    driver.start()
    trial = driver.ask()
    assert trial is not None
    first = driver.tell(trial, Result(scores=(5.0,)))
    again = driver.tell(trial, Result(scores=(-5.0,), error="another story"))
    assert again == first and len(ledger.turns(kinds=[Kind.TRIAL])) == 1


def test_a_lost_worker_s_trial_goes_to_another_and_his_late_tell_does_no_harm(
    clock: ToyClock, ledger: Ledger
) -> None:
    time_s = 0.0
    driver = Driver(clock, ledger, lease_s=10, now=lambda: time_s)
    driver.start()
    lost = driver.ask()
    time_s = 11.0
    taken = driver.ask()
    assert lost is not None and taken is not None and taken.id == lost.id
    verdict = driver.tell(taken, Result(scores=(1.0,)))
    assert driver.tell(lost, Result(error="I was away")) == verdict
    assert len(ledger.turns(kinds=[Kind.TRIAL])) == 1


def test_a_trial_that_kills_its_workers_fails_after_three_leases(
    clock: ToyClock, ledger: Ledger
) -> None:
    time_s = 0.0
    driver = Driver(clock, ledger, lease_s=1, max_attempts=3, now=lambda: time_s)
    driver.start()
    ids = []
    for _ in range(4):
        trial = driver.ask()
        assert trial is not None
        ids.append(trial.id)
        time_s += 2
    assert len(set(ids[:3])) == 1 and ids[3] != ids[0]
    [failed] = ledger.turns(kinds=[Kind.TRIAL])
    assert failed.verdict.decision is Decision.DISCARD and "expired 3 times" in str(
        failed.result.error
    )


def test_a_trial_never_leased_is_refused(clock: ToyClock, ledger: Ledger) -> None:
    driver = Driver(clock, ledger)
    champion = driver.start()
    with pytest.raises(LedgerError, match="never leased"):
        driver.tell(Trial("made-up", clock.line, champion.candidate, champion), Result())


def test_a_failed_trial_is_a_turn_and_not_an_exception(clock: ToyClock, ledger: Ledger) -> None:
    def explode(trial: Trial) -> Result:
        raise RuntimeError("out of memory")

    clock.trial = explode  # type: ignore[method-assign]
    driver = Driver(clock, ledger)
    driver.start()
    verdict = driver.turn()
    assert verdict is not None and verdict.decision is Decision.DISCARD
    [turn] = ledger.turns(kinds=[Kind.TRIAL])
    assert turn.result.error == "RuntimeError: out of memory" and turn.result.scores == ()


def test_a_policy_that_raises_discards(clock: ToyClock, ledger: Ledger) -> None:
    def explode(trial: Trial, account: Account) -> Verdict:
        raise ZeroDivisionError("no pairs")

    clock.policy = explode  # type: ignore[method-assign]
    driver = Driver(clock, ledger)
    driver.start()
    verdict = driver.turn()
    assert verdict is not None and not verdict.keep and "policy failed" in verdict.reason


def test_evidence_measured_beside_a_dethroned_champion_keeps_nothing(
    clock: ToyClock, ledger: Ledger
) -> None:
    driver = Driver(clock, ledger)
    driver.start()
    one, two = driver.ask(), driver.ask()
    assert one is not None and two is not None and one.id != two.id
    clock.policy = lambda trial, account: Verdict(Decision.KEEP, "always")  # type: ignore[method-assign]
    assert driver.tell(one, Result(scores=(1.0,), baseline=(0.0,))).keep
    stale = driver.tell(two, Result(scores=(2.0,), baseline=(0.0,)))
    assert not stale.keep and "since been replaced" in stale.reason


def test_no_confirmation_goes_on_beside_another_champion_than_it_began_with(
    clock: ToyClock, ledger: Ledger
) -> None:
    """Evidence against the old one, carried over, would keep what is no better than the new."""
    clock.policy = (  # type: ignore[method-assign]
        lambda trial, account: Verdict(
            Decision.KEEP if trial.candidate.state["x"] > 9 else Decision.CONTINUE, "so far", 0.01
        )
    )
    driver = Driver(clock, ledger)
    driver.start()
    undecided = driver.ask()
    assert undecided is not None
    driver.tell(undecided, Result(scores=(1.0,), baseline=(0.0,)))
    clock.propose = lambda champion, history: Candidate({"x": 10.0})  # type: ignore[method-assign]
    again = driver.ask()  # the undecided one's second round, leased before the champion moves
    better = driver._lease(Candidate({"x": 10.0}), ledger.champion(clock.line))  # type: ignore[arg-type]
    assert again is not None and again.id == undecided.id and better is not None
    assert driver.tell(better, Result(scores=(1.0,), baseline=(0.0,))).keep
    late = driver.tell(again, Result(scores=(1.0,), baseline=(0.0,)))
    assert late.decision is Decision.DISCARD and "since been replaced" in late.reason


def test_a_waiting_confirmation_ends_when_the_champion_moves(
    clock: ToyClock, ledger: Ledger
) -> None:
    clock.policy = lambda trial, account: Verdict(  # type: ignore[method-assign]
        Decision.CONTINUE, "so far", 0.01
    )
    driver = Driver(clock, ledger)
    first = driver.start()
    waiting = driver.ask()
    assert waiting is not None
    driver.tell(waiting, Result(scores=(1.0,), baseline=(0.0,)))
    driver.roll_back(first.turn, "the pointer moves")
    following = driver.ask()
    assert following is not None and following.id != waiting.id
    last = ledger.turns(clock.line, kinds=[Kind.TRIAL])[-1]
    assert last.trial == waiting.id and last.verdict.decision is Decision.DISCARD


def test_while_as_many_confirm_as_may_the_others_are_given_something_new(
    clock: ToyClock, ledger: Ledger
) -> None:
    clock.policy = lambda trial, account: Verdict(  # type: ignore[method-assign]
        Decision.CONTINUE, "so far", 0.01
    )
    driver = Driver(clock, ledger, n_confirming=1)
    driver.start()
    begun = [driver.ask(), driver.ask()]
    for trial in begun:
        assert trial is not None
        driver.tell(trial, Result(scores=(1.0,), baseline=(0.0,)))
    first, new = driver.ask(), driver.ask()
    assert first is not None and first.id == begun[0].id and first.round == 1  # type: ignore[union-attr]
    assert new is not None and new.round == 0 and new.id not in {t.id for t in begun if t}
    driver.tell(first, Result(scores=(1.0,), baseline=(0.0,)))
    following = driver.ask()
    assert following is not None and following.id == first.id  # the oldest to its end
    assert Driver(clock, ledger).ask().id == begun[1].id  # type: ignore[union-attr]


def test_a_worker_cannot_change_the_level_or_the_candidate_that_it_was_leased(
    clock: ToyClock, ledger: Ledger
) -> None:
    seen: list[Trial] = []

    def look(trial: Trial, account: Account) -> Verdict:
        seen.append(trial)
        return Verdict(Decision.DISCARD, "looked")

    clock.policy = look  # type: ignore[method-assign]
    driver = Driver(clock, ledger)
    driver.start()
    trial = driver.ask()
    assert trial is not None
    forged = replace(trial, level=0.9, candidate=Candidate({"x": 1e9}), results=())
    driver.tell(forged, Result(scores=(1.0,)))
    assert seen[0].level is None and seen[0].candidate == trial.candidate


def test_a_trial_of_another_line_or_of_a_round_ahead_is_refused(home: Path, ledger: Ledger) -> None:
    one, two = (Driver(ToyClock(home / f"{run}.json", run=run, seed=1), ledger) for run in "ab")
    one.start()
    two.start()
    trial = one.ask()
    assert trial is not None
    with pytest.raises(LedgerError, match="never leased"):
        two.tell(trial, Result(scores=(1.0,)))
    ahead = replace(trial, results=(Result(), Result()))
    with pytest.raises(LedgerError, match="round 2"):
        one.tell(ahead, Result(scores=(1.0,)))


@pytest.mark.parametrize(
    "bad",
    [
        Result(scores=("high",)),  # type: ignore[arg-type]
        Result(scores=(1.0,), facts={"a": {1, 2}}),
        Result(scores=(1.0,), facts={"a": object()}),
        None,
        0.93,
    ],
    ids=["words", "a set", "an object", "nothing", "a number"],
)
def test_a_malformed_result_is_a_failed_turn_that_the_ledger_can_read(
    bad: Result, clock: ToyClock, ledger: Ledger
) -> None:
    driver = Driver(clock, ledger)
    driver.start()
    trial = driver.ask()
    assert trial is not None
    assert driver.tell(trial, bad).decision is Decision.DISCARD
    [turn] = ledger.turns(kinds=[Kind.TRIAL])
    assert "malformed result" in str(turn.result.error)


def test_a_policy_that_gives_no_verdict_discards(clock: ToyClock, ledger: Ledger) -> None:
    clock.policy = lambda trial, account: True  # type: ignore[method-assign,assignment,return-value]
    driver = Driver(clock, ledger)
    driver.start()
    verdict = driver.turn()
    assert verdict is not None and "wanted a Verdict" in verdict.reason


def test_only_a_champion_of_the_line_can_be_rolled_back_to(home: Path, ledger: Ledger) -> None:
    clock = ToyClock(home / "a.json", seed=1)
    other = Driver(ToyClock(home / "b.json", run="b"), ledger).start()
    driver = Driver(clock, ledger)
    driver.start()
    clock.policy = lambda trial, account: Verdict(Decision.DISCARD, "no")  # type: ignore[method-assign]
    driver.turn()
    discarded = ledger.turns(clock.line, kinds=[Kind.TRIAL])[-1].id
    for turn in (other.turn, discarded):
        with pytest.raises(LedgerError, match="made no champion"):
            driver.roll_back(turn, "why not")


def test_a_confirmation_is_charged_once_however_many_rounds_it_takes(
    clock: ToyClock, ledger: Ledger
) -> None:
    def three_rounds(trial: Trial, account: Account) -> Verdict:
        if len(trial.results) < 4:
            return Verdict(Decision.CONTINUE, "go on", trial.level or 0.01)
        return Verdict(Decision.KEEP, "enough", trial.level)

    clock.policy = three_rounds  # type: ignore[method-assign]
    driver = Driver(clock, ledger)
    driver.start()
    verdicts = [driver.turn() for _ in range(4)]
    assert [v.decision for v in verdicts if v] == [Decision.CONTINUE] * 3 + [Decision.KEEP]
    account = ledger.account(clock.line)
    assert (account.n_begun, account.n_kept) == (1, 1)
    assert len({t.trial for t in ledger.turns(kinds=[Kind.TRIAL])}) == 1


def test_the_error_budget_is_the_user_s_to_set_until_it_is_drawn_on(
    clock: ToyClock, ledger: Ledger
) -> None:
    Driver(clock, ledger, alpha=0.01).start()
    assert ledger.account(clock.line).alpha == 0.01
    Driver(clock, ledger, alpha=0.02).start()
    assert ledger.account(clock.line).alpha == 0.02
    with ledger.writing(clock.line) as connection:
        ledger.charge(connection, clock.line, begun=1, kept=0)
    with pytest.raises(InputError, match="before the first"):
        Driver(clock, ledger, alpha=0.05).start()


def test_a_roll_back_makes_an_earlier_champion_live_again(clock: ToyClock, ledger: Ledger) -> None:
    driver = Driver(clock, ledger)
    first = driver.start()
    while ledger.champion(clock.line) == first:
        driver.turn()
    driver.roll_back(first.turn, "the newer one misbehaved")
    assert clock.champion().candidate.state == {"x": 0.0}
    assert_sound(clock, ledger)


def test_two_runs_of_one_task_keep_champions_of_their_own(home: Path, ledger: Ledger) -> None:
    clocks = [ToyClock(home / f"{run}.json", run=run, seed=i) for i, run in enumerate("ab")]
    drivers = [Driver(clock, ledger) for clock in clocks]
    for driver in drivers:
        driver.start()
    for _ in range(10):
        for driver in drivers:
            driver.turn()
    for clock in clocks:
        assert_sound(clock, ledger)
    assert clocks[0].champion().candidate != clocks[1].champion().candidate


def test_a_crash_between_the_ledger_and_the_live_state_is_mended(
    clock: ToyClock, ledger: Ledger
) -> None:
    driver = Driver(clock, ledger)
    driver.start()
    promote = clock.promote

    def die(champion: Champion) -> None:
        raise KeyboardInterrupt

    clock.promote = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        driver.run(lambda: False)
    clock.promote = promote  # type: ignore[method-assign]
    Driver(clock, ledger).start()
    assert_sound(clock, ledger)


def test_kill_9_at_100_random_lines_of_four_workers_loses_and_doubles_nothing(home: Path) -> None:
    """Each child dies at a random line of the driver, the ledger or the clock; then we look."""
    chance = random.Random(7)
    home.mkdir()
    acknowledged = home / "acknowledged"
    killed = 0
    while killed < N_KILLS:
        children = [fork(lambda seed=killed: _work(home, acknowledged, seed)) for _ in range(3)]
        line = chance.randrange(20, 1200)
        victim = fork(lambda n=line: _work(home, acknowledged, n, die_at=n))
        _, status = os.waitpid(victim, 0)
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the victim was to be killed, and ended by itself"
        killed += 1
        if killed % 10 == 0:
            _look(home, acknowledged)
    _look(home, acknowledged)


def _look(home: Path, acknowledged: Path) -> None:
    ledger, clock = Ledger(), ToyClock(home / "live.json")
    Driver(clock, ledger).start()
    assert_sound(clock, ledger)
    told = [turn.trial for turn in ledger.turns(kinds=[Kind.TRIAL])]
    assert len(told) == len(set(told)), "a turn was doubled"
    assert set(acknowledged.read_text().split()) <= set(told), "an acknowledged turn was lost"
    assert len(told) > 0
    ledger.close()


def _work(home: Path, acknowledged: Path, seed: int, die_at: int | None = None) -> None:
    if die_at is not None:
        kill_self_at_line(die_at, lambda file: file.endswith(OURS))
    driver = Driver(ToyClock(home / "live.json", seed=seed), Ledger(), lease_s=0.2)
    driver.start()
    with acknowledged.open("ab", buffering=0) as out:
        while True:
            trial = driver.ask()
            assert trial is not None
            driver.tell(trial, driver.measure(trial))
            out.write(f"{trial.id}\n".encode())


def assert_sound(clock: ToyClock, ledger: Ledger) -> None:
    champion = ledger.champion(clock.line)
    assert champion is not None
    assert clock.champion().identity == champion.identity, "live is not the champion"
    assert replay(ledger.turns())[clock.line] == champion, "the champion is not the replay"
