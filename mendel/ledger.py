"""Append, query, replay, champion: SQLite in WAL mode by default, PostgreSQL by URL.

turns (append-only) -> replay -> champion == champions (the pointer, same transaction)
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa

from mendel import schema
from mendel.blobs import Blobs
from mendel.rows import (
    as_champion,
    candidate_from,
    makes_champion,
    row_of_trial,
    row_of_turn,
    turn_of,
)
from mendel.schema import accounts, blob_refs, champions, lines, trials, turns
from mendel.statements import (
    ACCOUNT,
    CHAMPION,
    IN_FLIGHT,
    INSERT_TRIAL,
    INSERT_TURN,
    LINE_ID,
    LINE_NAME,
    LOCK,
    MOVE_POINTER,
    OPEN_TRIALS,
    ROUNDS,
    TOLD,
    TRIAL,
    TURN_AND_LINE,
    UPDATE_TRIAL,
)
from mendel.types import (
    Account,
    Candidate,
    Champion,
    Decision,
    Digest,
    InputError,
    Kind,
    LedgerError,
    Line,
    Trial,
    Turn,
)


def home() -> Path:
    """MENDEL_HOME, where ledger and blobs outlive every run."""
    return Path(os.environ.get("MENDEL_HOME") or Path.home() / ".mendel")


class Ledger:
    """Every turn ever, the champions that they made, and the leases of those in flight.

    url      None = MENDEL_LEDGER, or SQLite in `folder`; else any SQLAlchemy URL
    folder   for blobs and SQLite; None = MENDEL_HOME
    raises   LedgerError when the database cannot be opened or is newer than this mendel
    """

    def __init__(self, url: str | None = None, folder: Path | None = None) -> None:
        self.folder = folder or home()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.blobs = Blobs(self.folder / "blobs")
        url = url or os.environ.get("MENDEL_LEDGER") or f"sqlite:///{self.folder / 'ledger.db'}"
        self.engine = schema.open_engine(url)
        self._line_ids: dict[Line, int] = {}
        with self.reading() as connection:
            self.blobs.owner(connection.execute(sa.select(schema.meta.c.id)).scalar_one())

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, line: Line, *, durable: bool = True) -> Iterator[sa.Connection]:
        """One transaction; one writer at a time for each clock and task.

        durable   on disk when it returns; else a power cut, but no crash of ours, may undo it
        """
        options = {"mendel_writes": True, "mendel_durable": durable}
        with self.engine.execution_options(**options).begin() as connection:
            key = {"clock": line.clock, "task": line.task}
            if connection.execute(LOCK, key).first() is None:
                schema.insert_once(connection, accounts, {**key, "alpha": 0.05})
                connection.execute(LOCK, key).one()
            try:
                yield connection
            except BaseException:
                self._line_ids.clear()  # a number given in this transaction is undone with it
                raise

    # -- turns --

    def append(self, connection: sa.Connection, turn: Turn) -> Turn:
        """Write one turn; where it makes a champion, move the pointer with it."""
        line_id = self._line_id(connection, turn.line)
        turn = replace(turn, at=turn.at or time.time())
        result = connection.execute(INSERT_TURN, row_of_turn(turn, line_id))
        turn = replace(turn, id=cast(int, result.inserted_primary_key[0]))  # type: ignore[index]
        for blob in sorted(set(turn.result.artifacts.values())):
            schema.insert_once(connection, blob_refs, {"digest": blob, "turn": turn.id})
        if makes_champion(turn):
            self._point(connection, line_id, turn.id)
        return turn

    def turns(
        self,
        line: Line | None = None,
        *,
        clock: str | None = None,
        named: str | None = None,
        kinds: Iterable[Kind] = (),
        kept: bool = False,
        after: int = 0,
        limit: int | None = None,
    ) -> list[Turn]:
        """The newest `limit` turns that fit, oldest first.

        named   a part of the line's name, as str(line) writes it
        after   only turns behind this one
        """
        query = TURN_AND_LINE
        if line is not None:
            query = query.where(*_line_key(line))
        if clock is not None:
            query = query.where(lines.c.clock == clock)
        if named is not None:
            query = query.where(LINE_NAME.contains(named, autoescape=True))
        if kinds:
            query = query.where(turns.c.kind.in_(list(kinds)))
        if kept:
            query = query.where(turns.c.decision == Decision.KEEP)
        if after:
            query = query.where(turns.c.id > after)
        with self.reading() as connection:
            rows = connection.execute(query.order_by(turns.c.id.desc()).limit(limit)).all()
        return [turn_of(row) for row in reversed(rows)]

    def turn(self, id: int) -> Turn:
        """One turn; raises LedgerError where there is none of that number."""
        with self.reading() as connection:
            row = connection.execute(TURN_AND_LINE.where(turns.c.id == id)).first()
        if row is None:
            raise LedgerError(f"turn {id} is not in the ledger. `mendel log` lists those that are.")
        return turn_of(row)

    def why(self, id: int) -> list[Turn]:
        """The chain of verdicts that led to a turn: its own rounds, and each champion before."""
        own = self.turn(id)
        chain = (
            sa.select(turns.c.id, turns.c.champion)
            .where(turns.c.id == own.champion)
            .cte("chain", recursive=True)
        )
        chain = chain.union_all(
            sa.select(turns.c.id, turns.c.champion).where(turns.c.id == chain.c.champion)
        )
        rounds = sa.and_(turns.c.trial == own.trial, turns.c.trial != "", turns.c.id <= id)
        query = TURN_AND_LINE.where(
            sa.or_(turns.c.id == id, rounds, turns.c.id.in_(sa.select(chain.c.id)))
        )
        with self.reading() as connection:
            rows = connection.execute(query.order_by(turns.c.id)).all()
        return [turn_of(row) for row in rows]

    def lines(self) -> list[Line]:
        with self.reading() as connection:
            return [Line(r.clock, r.task, r.run) for r in connection.execute(sa.select(lines))]

    # -- champions --

    def champion(self, line: Line, connection: sa.Connection | None = None) -> Champion | None:
        """What the pointer says is live; None on a line that never began."""
        with self._reading(connection) as open_one:
            line_id = self.find_line(open_one, line)
            row = open_one.execute(CHAMPION, {"line": line_id}).first()
        return None if row is None else as_champion(turn_of(row))

    def champions(self) -> list[tuple[Line, Champion]]:
        query = TURN_AND_LINE.join(champions, champions.c.turn == turns.c.id)
        with self.reading() as connection:
            found = [turn_of(row) for row in connection.execute(query.order_by(turns.c.id))]
        return [(turn.line, as_champion(turn)) for turn in found]

    def account(self, line: Line, connection: sa.Connection | None = None) -> Account:
        """The error budget that all runs of this clock and task share."""
        with self._reading(connection) as open_one:
            row = open_one.execute(ACCOUNT, {"clock": line.clock, "task": line.task}).first()
        return Account() if row is None else Account(row.alpha, row.n_begun, row.n_kept)

    def set_alpha(self, connection: sa.Connection, line: Line, alpha: float) -> None:
        """The share of false keeps that all runs of a clock and task may expect.

        raises   InputError once a confirmation has begun: the level it was given stands
        """
        account = self.account(line, connection)
        if account.alpha == alpha:
            return
        if account.n_begun or not 0 < alpha < 1:
            raise InputError(
                f"alpha={alpha:g} on {line}, which has {account.alpha:g} and {account.n_begun} "
                "confirmations begun. Wanted a share in (0, 1), set before the first. "
                "Start a new task to use another."
            )
        connection.execute(
            sa.update(accounts)
            .where(accounts.c.clock == line.clock, accounts.c.task == line.task)
            .values(alpha=alpha)
        )

    def charge(self, connection: sa.Connection, line: Line, *, begun: int, kept: int) -> None:
        """Write down that confirmations began, and how many of them were kept."""
        connection.execute(
            sa.update(accounts)
            .where(accounts.c.clock == line.clock, accounts.c.task == line.task)
            .values(n_begun=accounts.c.n_begun + begun, n_kept=accounts.c.n_kept + kept)
        )

    # -- blobs that nobody points to --

    def gc(
        self,
        *,
        older_than_s: float | None = None,
        grace_s: float = 3600.0,
        working: Iterable[Line] = (),
    ) -> tuple[int, int]:
        """Delete blobs without a turn, and with an age also what a replay can rebuild.

        older_than_s   artifacts of turns older than this go too; never a champion's, of any of its
                       rounds, nor those of a line with a trial in flight
        grace_s        a blob this young may belong to a trial that has not told yet
        working        lines to leave alone besides
        returns        number of blobs deleted, bytes freed
        raises         LedgerError where the folder's blobs are another ledger's
        """
        with self.reading() as connection:
            mine = connection.execute(sa.select(schema.meta.c.id)).scalar_one()
        owner = self.blobs.owner(mine)
        if owner != mine:
            raise LedgerError(
                f"the blobs in {self.blobs.folder} belong to another ledger. Wanted this one's. "
                "Set MENDEL_HOME or MENDEL_LEDGER as they were when the blobs were written."
            )
        keep = self._kept_blobs(older_than_s, working)
        gone = [b for b in self.blobs if b not in keep and self.blobs.age_s(b) > grace_s]
        return len(gone), sum(self.blobs.remove(blob) for blob in gone)

    def _kept_blobs(self, older_than_s: float | None, working: Iterable[Line]) -> set[Digest]:
        query = sa.select(blob_refs.c.digest)
        if older_than_s is not None:
            live = sa.select(turns.c.trial).join(champions, champions.c.turn == turns.c.id)
            busy = sa.select(trials.c.line_id).where(trials.c.open)
            with self.reading() as connection:
                left = [self.find_line(connection, line) for line in working]
            query = query.join(turns, turns.c.id == blob_refs.c.turn).where(
                sa.or_(
                    turns.c.at > time.time() - older_than_s,
                    turns.c.id.in_(sa.select(champions.c.turn)),
                    sa.and_(turns.c.trial != "", turns.c.trial.in_(live)),
                    turns.c.line_id.in_(busy),
                    turns.c.line_id.in_(left),
                )
            )
        with self.reading() as connection:
            return {row.digest for row in connection.execute(query)}

    # -- trials in flight (the driver's) --

    def add_trial(self, connection: sa.Connection, trial: Trial) -> None:
        row = row_of_trial(trial, self._line_id(connection, trial.line), time.time())
        connection.execute(INSERT_TRIAL, row)

    def open_trials(
        self, connection: sa.Connection, line: Line, *, due: float = math.inf
    ) -> Sequence[sa.Row[Any]]:
        """Trials not yet decided, oldest first; with `due`, only those that nobody holds then."""
        line_id = self.find_line(connection, line)
        return connection.execute(OPEN_TRIALS, {"line": line_id, "due": min(due, 1e300)}).all()

    def is_in_flight(self, connection: sa.Connection, line: Line, candidate: Digest) -> bool:
        found = {"line": self.find_line(connection, line), "candidate": candidate}
        return connection.execute(IN_FLIGHT, found).first() is not None

    def trial_row(self, connection: sa.Connection, id: str) -> sa.Row[Any] | None:
        return connection.execute(TRIAL, {"trial": id}).first()

    def update_trial(self, connection: sa.Connection, row: sa.Row[Any], **values: Any) -> None:
        old = {c: getattr(row, c) for c in TOLD}
        connection.execute(UPDATE_TRIAL, {**old, **values, "trial": row.id})

    def rounds(self, connection: sa.Connection, trial: str) -> list[Turn]:
        return [turn_of(row) for row in connection.execute(ROUNDS, {"trial": trial})]

    # -- inside --

    def _point(self, connection: sa.Connection, line_id: int, turn: int) -> None:
        moved = connection.execute(MOVE_POINTER, {"line": line_id, "to": turn})
        if moved.rowcount == 0:
            connection.execute(sa.insert(champions).values(line_id=line_id, turn=turn))

    def find_line(self, connection: sa.Connection, line: Line) -> int:
        """Its number; 0 where the ledger has not seen it."""
        if line not in self._line_ids:
            found = connection.execute(LINE_ID, asdict(line)).scalar()
            if found is None:
                return 0
            self._line_ids[line] = cast(int, found)
        return self._line_ids[line]

    def _line_id(self, connection: sa.Connection, line: Line) -> int:
        """Its number; the line is written down where it is new."""
        if not self.find_line(connection, line):
            schema.insert_once(connection, lines, asdict(line))
            # not remembered yet: this transaction may still be undone
            return cast(int, connection.execute(LINE_ID, asdict(line)).scalar_one())
        return self._line_ids[line]

    @contextmanager
    def _reading(self, connection: sa.Connection | None) -> Iterator[sa.Connection]:
        if connection is not None:
            yield connection
        else:
            with self.reading() as fresh:
                yield fresh


class View:
    """What a proposer may see of its own line: no sealed scores, but what is in flight."""

    def __init__(self, ledger: Ledger, line: Line) -> None:
        self._ledger, self._line = ledger, line

    def turns(self, *, limit: int | None = None, kept: bool = False) -> list[Turn]:
        found = self._ledger.turns(self._line, kinds=[Kind.TRIAL], kept=kept, limit=limit)
        return [replace(turn, sealed=None) for turn in found]

    def told(self, *, after: int = 0) -> list[Turn]:
        kinds = [Kind.TRIAL, Kind.INSIGHT]
        found = self._ledger.turns(self._line, kinds=kinds, after=after)
        return [replace(turn, sealed=None) for turn in found]

    def pending(self) -> list[Candidate]:
        with self._ledger.reading() as connection:
            rows = self._ledger.open_trials(connection, self._line)
        return [candidate_from(row.candidate) for row in rows]


class Earlier:
    """What a proposer may see of all lines of a clock: no sealed scores, nor what they led to."""

    def __init__(self, ledger: Ledger, clock: str) -> None:
        self._ledger, self._clock = ledger, clock

    def turns(self, *, limit: int = 5_000) -> list[Turn]:
        """The newest `limit` trials, and where lines began, oldest first."""
        kinds = [Kind.START, Kind.TRIAL]
        found = self._ledger.turns(clock=self._clock, kinds=kinds, limit=limit)
        return [replace(turn, sealed=None) for turn in found]


def _line_key(line: Line) -> tuple[sa.ColumnElement[bool], ...]:
    return lines.c.clock == line.clock, lines.c.task == line.task, lines.c.run == line.run
