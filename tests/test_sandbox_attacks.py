"""Every attack is contained or refused on every backend; without walls, the harmless succeed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mendel.sandbox import SandboxError

from .attacks.attack import Attack
from .attacks.run import ATTACKS, CONTAINED, LEAKED, REFUSED, Found, Range

HARMLESS = [one for one in ATTACKS if one.harmless]


def name(one: object) -> str:
    return f"{one.kind}, {one.name}" if isinstance(one, Attack) else str(one)


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def ground(request: pytest.FixtureRequest) -> Iterator[Range]:
    try:
        ground = Range(request.param)
    except SandboxError as error:
        pytest.skip(f"{request.param}: {error}")
    yield ground
    ground.close()


@pytest.fixture(scope="module")
def open_ground() -> Iterator[Range]:
    ground = Range("unsafe")
    yield ground
    ground.close()


@pytest.mark.parametrize("one", ATTACKS, ids=name)
def test_contained_or_refused(ground: Range, one: Attack) -> None:
    found = ground.attack(one)
    assert found.verdict in (CONTAINED, REFUSED), f"{found.verdict}: {found.why}"
    assert found.verdict == CONTAINED or may_refuse(found), found.why


def may_refuse(found: Found) -> bool:
    """Landlock, and only what it has no means for."""
    limits = found.attack.limits
    return "landlock" in found.why and (limits.scratch_bytes > 0 or limits.processes > 1)


@pytest.mark.parametrize("one", HARMLESS, ids=name)
def test_the_attack_succeeds_where_there_are_no_walls(open_ground: Range, one: Attack) -> None:
    found = open_ground.attack(one)
    assert found.verdict == LEAKED, found.why


def test_the_suite_is_as_wide_as_it_says() -> None:
    assert len(ATTACKS) >= 45 and len({one.kind for one in ATTACKS}) >= 25
    assert len({(one.kind, one.name) for one in ATTACKS}) == len(ATTACKS)
    assert len(HARMLESS) >= 30
