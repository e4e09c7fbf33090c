"""What the ledger says to its database, built once.

SQLAlchemy takes longer to build a statement than SQLite to run it.
"""

from __future__ import annotations

import sqlalchemy as sa

from mendel.schema import accounts, champions, lines, trials, turns

TURN_AND_LINE = sa.select(turns, lines).join(lines, turns.c.line_id == lines.c.id)
OF_LINE: sa.BindParameter[int] = sa.bindparam("line")
TOLD = ("open", "round", "attempts", "level", "deadline", "champion")  # what changes of a trial
LINE_ID = sa.select(lines.c.id).where(
    lines.c.clock == sa.bindparam("clock"),
    lines.c.task == sa.bindparam("task"),
    lines.c.run == sa.bindparam("run"),
)
ACCOUNT = sa.select(accounts).where(
    accounts.c.clock == sa.bindparam("clock"), accounts.c.task == sa.bindparam("task")
)
LINE_NAME = lines.c.clock + "/" + sa.func.substr(lines.c.task, 1, 12) + "/" + lines.c.run
LOCK = ACCOUNT.with_for_update()
INSERT_TURN = sa.insert(turns)
ROUNDS = TURN_AND_LINE.where(turns.c.trial == sa.bindparam("trial")).order_by(turns.c.round)
CHAMPION = TURN_AND_LINE.join(champions, champions.c.turn == turns.c.id).where(
    champions.c.line_id == OF_LINE
)
MOVE_POINTER = (
    sa.update(champions).where(champions.c.line_id == OF_LINE).values(turn=sa.bindparam("to"))
)
INSERT_TRIAL = sa.insert(trials)
TRIAL = sa.select(trials).where(trials.c.id == sa.bindparam("trial"))
OPEN_TRIALS = (
    sa.select(trials)
    .where(trials.c.line_id == OF_LINE, trials.c.open, trials.c.deadline <= sa.bindparam("due"))
    .order_by(trials.c.at, trials.c.id)
)
IN_FLIGHT = sa.select(trials.c.id).where(
    trials.c.line_id == OF_LINE, trials.c.open, trials.c.candidate_id == sa.bindparam("candidate")
)
UPDATE_TRIAL = (
    sa.update(trials)
    .where(trials.c.id == sa.bindparam("trial"))
    .values({c: sa.bindparam(c) for c in TOLD})
)
