"""The ledger on SQLite, on PostgreSQL where one is at hand, and its blobs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mendel.driver import Driver
from mendel.ledger import Ledger
from mendel.types import TRIAL, Kind, LedgerError, Result
from tests.ledger_contract import LINE, LedgerContract, turn
from tests.toy import ToyClock


class TestSQLite(LedgerContract):
    @pytest.fixture
    def url(self) -> str | None:
        return None

    def test_a_file_that_is_no_database_is_refused_with_advice(self, home: Path) -> None:
        home.mkdir()
        (home / "ledger.db").write_bytes(b"not a database, but long enough to look like one" * 50)
        with pytest.raises(LedgerError, match="MENDEL_HOME"):
            Ledger()

    def test_a_password_in_the_url_stays_out_of_the_message(self) -> None:
        with pytest.raises(LedgerError) as error:
            Ledger("postgresql+psycopg://u:hunter2@127.0.0.1:1/none")
        assert "hunter2" not in str(error.value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of our own, as an unprivileged user, on a UNIX socket; its URL."""
    pytest.importorskip("psycopg", reason="needs mendel[postgres]")
    folder = tmp_path_factory.mktemp("postgres")
    programs = _postgres_programs()
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if user:
        for place in (folder, *folder.parents[:3]):
            place.chmod(0o755)
        shutil.chown(folder, "postgres", "postgres")
    data, options = folder / "data", f"-k {folder} -c listen_addresses= -c fsync=off"
    command = [
        *user,
        programs / "initdb",
        "-D",
        data,
        "-U",
        "mendel",
        "-A",
        "trust",
        "-E",
        "UTF8",
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    control = [*user, programs / "pg_ctl", "-D", data, "-w"]
    log = folder / "log"
    subprocess.run(
        [*control, "-o", options, "-l", log, "start"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    yield f"postgresql+psycopg://mendel@/postgres?host={folder}"
    subprocess.run(
        [*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder
    )


@pytest.mark.slow
class TestPostgreSQL(LedgerContract):
    """On a server of our own."""

    @pytest.fixture
    def url(self, server: str) -> Iterator[str | None]:
        import sqlalchemy as sa

        yield server
        engine = sa.create_engine(server)
        with engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
        engine.dispose()


def _postgres_programs() -> Path:
    places = [Path(p).parent for p in [shutil.which("initdb") or ""] if p]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for place in places:
        if (place / "initdb").exists():
            return place
    pytest.skip("no PostgreSQL server programs here (Debian: apt-get install postgresql)")


def test_a_damaged_blob_is_noticed(ledger: Ledger) -> None:
    digest = ledger.blobs.put(b"weights")
    assert ledger.blobs.get(digest) == b"weights"
    ledger.blobs.path(digest).write_bytes(b"weight$")
    with pytest.raises(LedgerError, match="damaged"):
        ledger.blobs.get(digest)


LONG_AGO = time.time() - 40 * 86400


def old_blob(ledger: Ledger, name: str) -> str:
    digest = ledger.blobs.put(name.encode())
    os.utime(ledger.blobs.path(digest), (LONG_AGO, LONG_AGO))
    return digest


def test_gc_removes_only_what_nobody_points_to(ledger: Ledger) -> None:
    old, orphan = old_blob(ledger, "old"), old_blob(ledger, "orphan")
    first_round, last_round = old_blob(ledger, "model"), old_blob(ledger, "logits")
    fresh = ledger.blobs.put(b"fresh")
    with ledger.writing(LINE) as connection:
        made = [Result(artifacts={"blob": b}) for b in (old, first_round, last_round)]
        ledger.append(connection, turn(1, result=made[0], at=LONG_AGO))
        ledger.append(connection, turn(2, trial="t", round=0, result=made[1], at=LONG_AGO))
        last = turn(3, trial="t", round=1, keep=True, result=made[2], at=LONG_AGO)
        ledger.append(connection, last)
    assert ledger.gc() == (1, len(b"orphan"))
    assert orphan not in set(ledger.blobs)
    assert ledger.gc(older_than_s=30 * 86400, working=[LINE]) == (0, 0)
    assert ledger.gc(older_than_s=30 * 86400) == (1, len(b"old"))
    assert set(ledger.blobs) == {first_round, last_round, fresh}


def test_gc_leaves_a_line_alone_that_has_a_trial_in_flight(ledger: Ledger, home: Path) -> None:
    driver = Driver(ToyClock(home / "live.json"), ledger)
    driver.start()
    blob = old_blob(ledger, "of a round before")
    with ledger.writing(driver.clock.line) as connection:
        told = turn(1, result=Result(artifacts={"weights": blob}), at=LONG_AGO)
        ledger.append(connection, replace(told, line=driver.clock.line))
    assert driver.ask() is not None
    assert ledger.gc(older_than_s=0) == (0, 0)


def test_gc_refuses_the_blobs_of_another_ledger(ledger: Ledger, home: Path) -> None:
    old_blob(ledger, "mine")
    other = Ledger(f"sqlite:///{home / 'other.db'}")
    with pytest.raises(LedgerError, match="another ledger"):
        other.gc()
    other.close()


def test_those_who_measure_read_no_sealed_score(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger.writing(LINE) as connection:
        ledger.append(connection, turn(1, kind=Kind.OPENING, sealed={"accuracy": 0.9}))
    assert ledger.turns()[0].sealed == {"accuracy": 0.9}
    monkeypatch.setenv(TRIAL, "1")
    assert ledger.turns()[0].sealed is None
