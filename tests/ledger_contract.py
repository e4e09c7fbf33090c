"""What every ledger must do. Subclass it, give `url`, and pytest runs it on that database."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from mendel import schema
from mendel.driver import Driver
from mendel.ledger import Ledger, View
from mendel.rows import replay
from mendel.types import (
    Candidate,
    Decision,
    Kind,
    LedgerError,
    Line,
    Result,
    Turn,
    Verdict,
    digest,
)
from tests.toy import ToyClock

LINE = Line("toy", digest("contract"))


def turn(x: float, *, kind: Kind = Kind.TRIAL, keep: bool = False, **fields: object) -> Turn:
    decision = Decision.KEEP if keep else Decision.DISCARD
    candidate = Candidate({"x": x}, "because", ("note",))
    result = fields.pop("result", Result(scores=(x,)))
    trial = fields.pop("trial", f"trial-{x}")
    return Turn(LINE, kind, candidate, result, Verdict(decision, "why"), trial=trial, **fields)  # type: ignore[arg-type]


class LedgerContract:
    @pytest.fixture
    def url(self) -> str | None:
        raise AssertionError("a contract needs a url")

    @pytest.fixture
    def open_ledger(self, url: str | None, home: Path) -> Iterator[Ledger]:
        ledger = Ledger(url)
        yield ledger
        ledger.close()

    def write(self, ledger: Ledger, *turns: Turn) -> list[Turn]:
        with ledger.writing(LINE) as connection:
            return [ledger.append(connection, t) for t in turns]

    def test_a_turn_comes_back_as_it_was_written(self, open_ledger: Ledger) -> None:
        told = turn(
            0.5, result=Result(scores=(0.5, 1.0), artifacts={"w": "0" * 64}, facts={"a": [1]})
        )
        [written] = self.write(open_ledger, told)
        assert open_ledger.turn(written.id) == written
        assert written.result == told.result and written.candidate == told.candidate

    def test_what_is_not_finite_comes_back_as_nan(self, open_ledger: Ledger) -> None:
        result = Result(scores=(math.inf, math.nan, 1.0), facts={"loss": math.nan})
        [written] = self.write(open_ledger, turn(1.0, result=result))
        scores = open_ledger.turn(written.id).result.scores
        assert math.isnan(scores[0]) and math.isnan(scores[1]) and scores[2] == 1.0

    def test_the_pointer_is_what_a_replay_leads_to(self, open_ledger: Ledger) -> None:
        self.write(
            open_ledger,
            turn(0, kind=Kind.START, keep=True),
            turn(1, keep=True),
            turn(2),
            turn(3, kind=Kind.OPENING, keep=True),
            turn(4, kind=Kind.CLAIM, keep=True),
            turn(5, kind=Kind.INSIGHT, keep=True),
        )
        champion = open_ledger.champion(LINE)
        assert champion is not None and champion.candidate.state == {"x": 1}
        assert replay(open_ledger.turns())[LINE] == champion

    def test_a_transaction_that_fails_leaves_nothing(self, open_ledger: Ledger) -> None:
        with pytest.raises(ZeroDivisionError), open_ledger.writing(LINE) as connection:
            open_ledger.append(connection, turn(1, kind=Kind.START, keep=True))
            raise ZeroDivisionError
        assert open_ledger.turns() == [] and open_ledger.champion(LINE) is None
        self.write(open_ledger, turn(1, kind=Kind.START, keep=True))
        assert open_ledger.champion(LINE) is not None

    def test_why_is_the_chain_of_champions(self, open_ledger: Ledger) -> None:
        start, *_ = self.write(open_ledger, turn(0, kind=Kind.START, keep=True))
        one, other = self.write(open_ledger, turn(1, keep=True, champion=start.id), turn(9))
        [two] = self.write(open_ledger, turn(2, keep=True, champion=one.id))
        assert [t.id for t in open_ledger.why(two.id)] == [start.id, one.id, two.id]
        assert other.id not in [t.id for t in open_ledger.why(two.id)]

    def test_a_round_is_written_once(self, open_ledger: Ledger) -> None:
        import sqlalchemy as sa

        self.write(open_ledger, turn(1, trial="t", round=0))
        with pytest.raises(sa.exc.IntegrityError):
            self.write(open_ledger, turn(2, trial="t", round=0))

    def test_a_view_shows_no_sealed_score(self, open_ledger: Ledger) -> None:
        self.write(
            open_ledger,
            turn(1, sealed={"accuracy": 0.9}),
            turn(2, kind=Kind.OPENING, sealed={"accuracy": 1.0}),
        )
        seen = View(open_ledger, LINE).turns()
        assert [t.sealed for t in seen] == [None]
        assert "0.9" not in repr(seen)

    def test_all_runs_of_a_task_draw_on_one_account(self, open_ledger: Ledger) -> None:
        with open_ledger.writing(LINE) as connection:
            open_ledger.charge(connection, LINE, begun=3, kept=1)
        other_run = Line(LINE.clock, LINE.task, "second")
        assert open_ledger.account(other_run) == open_ledger.account(LINE)
        assert open_ledger.account(other_run).n_begun == 3

    def test_a_ledger_of_a_newer_mendel_is_refused(
        self, open_ledger: Ledger, url: str | None
    ) -> None:
        import sqlalchemy as sa

        with open_ledger.engine.begin() as connection:
            connection.execute(sa.update(schema.meta).values(version=schema.VERSION + 1))
        with pytest.raises(LedgerError, match="Update mendel"):
            Ledger(url)

    def test_a_ledger_too_old_to_migrate_is_refused_with_what_to_do(
        self, open_ledger: Ledger, url: str | None
    ) -> None:
        import sqlalchemy as sa

        with open_ledger.engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE meta RENAME COLUMN id TO name"))
        with pytest.raises(LedgerError, match=r"no meta\.id.* set MENDEL_HOME"):
            Ledger(url)

    def test_an_older_ledger_is_migrated_and_keeps_its_turns(
        self, open_ledger: Ledger, url: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import sqlalchemy as sa

        self.write(open_ledger, turn(1, kind=Kind.START, keep=True))
        step = "ALTER TABLE turns ADD COLUMN mood VARCHAR(16) NOT NULL DEFAULT 'calm'"
        monkeypatch.setattr(schema, "MIGRATIONS", [lambda c: c.execute(sa.text(step))])
        monkeypatch.setattr(schema, "VERSION", 2)
        newer = Ledger(url)
        assert newer.champion(LINE) is not None
        with newer.reading() as connection:
            assert connection.execute(sa.text("SELECT mood FROM turns")).scalar() == "calm"
            assert connection.execute(sa.select(schema.meta.c.version)).scalar() == 2
        newer.close()

    def test_four_processes_write_one_ledger(
        self, open_ledger: Ledger, url: str | None, home: Path
    ) -> None:
        Driver(ToyClock(home / "live.json"), open_ledger).start()
        open_ledger.close()  # no connection crosses a fork
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_work, args=(url, home, seed, 15)) for seed in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 4
        turns = open_ledger.turns(kinds=[Kind.TRIAL])
        assert len(turns) == 60 and len({t.trial for t in turns}) == 60
        clock = ToyClock(home / "live.json")
        champion = open_ledger.champion(clock.line)
        assert champion is not None
        assert clock.champion().identity == champion.identity
        assert replay(open_ledger.turns())[clock.line] == champion


def _work(url: str | None, home: Path, seed: int, n: int) -> None:
    ledger = Ledger(url)
    driver = Driver(ToyClock(home / "live.json", seed=seed), ledger)
    for _ in range(n):
        assert driver.turn() is not None
