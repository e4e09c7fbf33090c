"""The ledger on SQLite, on PostgreSQL where one is at hand, and its blobs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mendel.ledger import Ledger
from mendel.types import Kind, LedgerError, Result
from tests.ledger_contract import LINE, LedgerContract, turn


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


def test_gc_removes_only_what_nobody_points_to(ledger: Ledger) -> None:
    live, old, orphan, fresh = (
        ledger.blobs.put(name) for name in (b"live", b"old", b"orphan", b"fresh")
    )
    long_ago = time.time() - 40 * 86400
    for blob in (live, old, orphan):
        os.utime(ledger.blobs.path(blob), (long_ago, long_ago))
    with ledger.writing(LINE) as connection:
        ledger.append(connection, turn(1, result=Result(artifacts={"weights": old}), at=long_ago))
        start = turn(
            2, kind=Kind.START, keep=True, result=Result(artifacts={"weights": live}), at=long_ago
        )
        ledger.append(connection, start)
    assert ledger.gc() == (1, len(b"orphan"))
    assert set(ledger.blobs) == {live, old, fresh}
    assert ledger.gc(older_than_s=30 * 86400) == (1, len(b"old"))
    assert set(ledger.blobs) == {live, fresh}
