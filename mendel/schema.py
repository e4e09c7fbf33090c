"""The ledger's tables, its schema version, and how an older one is brought up to date."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mendel.types import LedgerError

metadata = sa.MetaData()
Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # only INTEGER counts up by itself there

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("id", sa.String(32), nullable=False),  # whose blobs are whose
)

lines = sa.Table(
    "lines",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("clock", sa.String(64), nullable=False),
    sa.Column("task", sa.String(64), nullable=False),
    sa.Column("run", sa.String(64), nullable=False),
    sa.UniqueConstraint("clock", "task", "run"),
)

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("clock", sa.String(64), primary_key=True),
    sa.Column("task", sa.String(64), primary_key=True),
    sa.Column("alpha", sa.Float, nullable=False),
    sa.Column("n_begun", sa.Integer, nullable=False, server_default="0"),
    sa.Column("n_kept", sa.Integer, nullable=False, server_default="0"),
)

turns = sa.Table(
    "turns",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("line_id", Id, sa.ForeignKey("lines.id"), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("trial", sa.String(64), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("candidate", sa.JSON, nullable=False),
    sa.Column("result", sa.JSON, nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("verdict", sa.JSON, nullable=False),
    sa.Column("champion", Id, nullable=False),
    sa.Column("sealed", sa.JSON(none_as_null=True)),
    sa.Column("at", sa.Float, nullable=False),
    sa.Index("turns_by_line", "line_id", "kind", "id"),
    sa.Index("turns_by_trial", "trial", "round"),
)
# a round of a trial is told once, whoever tells it
sa.Index(
    "turns_once",
    turns.c.trial,
    turns.c.round,
    unique=True,
    sqlite_where=turns.c.kind == "trial",
    postgresql_where=turns.c.kind == "trial",
)

champions = sa.Table(
    "champions",
    metadata,
    sa.Column("line_id", Id, sa.ForeignKey("lines.id"), primary_key=True, autoincrement=False),
    sa.Column("turn", Id, sa.ForeignKey("turns.id"), nullable=False),
)

trials = sa.Table(
    "trials",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("line_id", Id, sa.ForeignKey("lines.id"), nullable=False),
    sa.Column("candidate_id", sa.String(64), nullable=False),
    sa.Column("candidate", sa.JSON, nullable=False),
    sa.Column("champion", Id, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),  # the next one to tell
    sa.Column("attempts", sa.Integer, nullable=False),  # leases of this round
    sa.Column("level", sa.Float),
    sa.Column("deadline", sa.Float, nullable=False),
    sa.Column("open", sa.Boolean, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Index("trials_open", "line_id", "open", "deadline"),
)

blob_refs = sa.Table(
    "blob_refs",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("turn", Id, sa.ForeignKey("turns.id"), primary_key=True, autoincrement=False),
)


# step i brings version i+1 to i+2; the list is the history
MIGRATIONS: list[Callable[[sa.Connection], None]] = []
VERSION = len(MIGRATIONS) + 1


def open_engine(url: str) -> sa.Engine:
    """Connect, and make or migrate the tables.

    raises   LedgerError when it cannot be reached, or was written by a newer mendel or by one
             so old that there is no way to this one
    """
    try:
        engine = sa.create_engine(url, **_options(url))
        if engine.dialect.name == "sqlite":
            _tune_sqlite(engine)
        try:
            _prepare(engine)
        except BaseException:
            engine.dispose()
            raise
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        raise LedgerError(
            f"the ledger at {_without_password(url)} cannot be opened: {_first_line(error)}. "
            "Wanted a SQLite file or postgresql+psycopg://user@host/name. "
            "Check MENDEL_LEDGER and MENDEL_HOME."
        ) from error
    return engine


def insert_once(connection: sa.Connection, table: sa.Table, row: Mapping[str, Any]) -> None:
    """Insert, unless another connection did so first."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(table).values(row).on_conflict_do_nothing())


def _options(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": 60.0, "check_same_thread": False}}
    return {"pool_pre_ping": True}


def _tune_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # a reader that later writes would fail with "database is locked": take the lock at once
        options = connection.get_execution_options()
        if not options.get("mendel_writes"):
            connection.exec_driver_sql("BEGIN")
            return
        # an acknowledged turn survives a power cut; a lease need not, and costs half as much
        level = "FULL" if options.get("mendel_durable", True) else "NORMAL"
        connection.exec_driver_sql(f"PRAGMA synchronous={level}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare(engine: sa.Engine) -> None:
    with engine.execution_options(mendel_writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(20031953)"))
        if not sa.inspect(connection).has_table("meta"):
            metadata.create_all(connection)
            connection.execute(sa.insert(meta).values(version=VERSION, id=uuid.uuid4().hex))
            return
        version = connection.execute(sa.select(meta.c.version)).scalar_one()
        if version > VERSION:
            raise LedgerError(
                f"the ledger has schema version {version}; this mendel knows {VERSION}. "
                "Wanted the same or an older one. Update mendel, or set MENDEL_HOME elsewhere."
            )
        for step in MIGRATIONS[version - 1 :]:
            step(connection)
        _check_columns(connection)
        connection.execute(sa.update(meta).values(version=VERSION))


def _check_columns(connection: sa.Connection) -> None:
    """Before the first release, tables changed without a version of their own."""
    tables = sa.inspect(connection).get_multi_columns().items()
    there = {(table, column["name"]) for (_, table), columns in tables for column in columns}
    wanted = [(table.name, column.name) for table in metadata.sorted_tables for column in table.c]
    missing = [f"{table}.{column}" for table, column in wanted if (table, column) not in there]
    if missing:
        raise LedgerError(
            "the ledger was made by an older mendel, and no step leads from it to this one: it has "
            f"no {', '.join(missing[:5])}. Wanted all of schema version {VERSION}. Go on with the "
            "mendel that made it, or set MENDEL_HOME (or MENDEL_LEDGER) to a new place."
        )


def _without_password(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "the URL given"  # it may hold a password that we cannot find


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
