"""Every test has a home of its own: nothing is written to the user's."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mendel.ledger import Ledger

# before torch is imported, and for what tests start: two workers on two cores, one thread each
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """A shell starts what it puts into the background deaf to Ctrl-C, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MENDEL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MENDEL_LEDGER", raising=False)
    return tmp_path / "home"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Models this small are slower with more, the more so where tests share the cores."""
    import torch

    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    ledger = Ledger()
    yield ledger
    ledger.close()


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the audits of research lines are kept: a design is audited once."""
    return tmp_path_factory.mktemp("audits")


@pytest.fixture
def line(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, audited: Path) -> Callable[..., Any]:
    """Makes a small research line: recipes -> (ResearchClock, proposer)."""
    from . import research_toy as toy

    return lambda *recipes, **known: toy.line(
        ledger, monkeypatch, *recipes, audited=audited, **known
    )
