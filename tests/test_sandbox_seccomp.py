"""The filter, run by a small interpreter of its own: both architectures, every rule."""

from __future__ import annotations

import errno
import struct
from types import SimpleNamespace

import pytest

from mendel.sandbox import SandboxError, seccomp
from mendel.sandbox.calls import LAST, NUMBERS
from mendel.sandbox.seccomp import ALLOW, ALWAYS, ANSWERS, ERRNO, FORKS, KILL, METADATA, NEVER

MACHINES = sorted(seccomp.ARCHITECTURES)
EPERM = ERRNO | errno.EPERM


def decide(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel would do; loads, jumps and returns are all that the filter uses."""
    values = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, arch, 0, *(v & (2**64 - 1) for v in values))
    place = held = 0
    while True:
        code, yes, no, k = struct.unpack_from("<HBBI", program, 8 * place)
        place += 1
        if code == seccomp.RETURN:
            return k
        if code == seccomp.LOAD:
            held = struct.unpack_from("<I", data, k)[0]
            continue
        if code == seccomp.AND:
            held &= k
            continue
        true = {
            seccomp.EQUAL: held == k,
            seccomp.GREATER: held > k,
            seccomp.AT_LEAST: held >= k,
            seccomp.ANY_BIT: bool(held & k),
        }[code]
        place += yes if true else no


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(seccomp.os, "uname", lambda: SimpleNamespace(machine=request.param))
    return request.param


def filter_of(machine: str, *, landlock: bool = True, processes: int = 1) -> tuple[bytes, int, int]:
    tables, when = [NEVER], list(ALWAYS)
    if processes == 1:
        tables.append(FORKS)
        when.append(seccomp.When("clone", 0, "lacks", seccomp.CLONE_THREAD))
    if landlock:
        tables.append(METADATA)
    when += seccomp.own_signals(77)
    column, arch = seccomp.ARCHITECTURES[machine]
    return seccomp.program(tables, when), arch, column


def test_every_named_call_is_refused_and_reading_is_not(machine: str) -> None:
    program, arch, column = filter_of(machine)
    names = [n for t in (NEVER, FORKS, METADATA) for text in t.values() for n in text.split()]
    assert len(names) > 100
    for name in names:
        number = NUMBERS[name][column]
        answer = ERRNO | ANSWERS.get(name, errno.EPERM)
        assert number is None or decide(program, arch, number) == answer, name
    read, write, mmap, exit_group = ((0, 1, 9, 231), (63, 64, 222, 94))[column]
    for number in (read, write, mmap, exit_group):
        assert decide(program, arch, number, 1, 2, 3) == ALLOW


def test_another_table_of_calls_is_the_end(machine: str) -> None:
    program, arch, _ = filter_of(machine)
    assert decide(program, arch ^ 0x40000000, 0) == KILL
    assert decide(program, 0x40000003, 20) == KILL  # i386
    assert decide(program, arch, seccomp.X32) == KILL
    assert decide(program, arch, LAST + 1) == ERRNO | errno.ENOSYS
    assert decide(program, arch, 435) == ERRNO | errno.ENOSYS  # clone3


@pytest.mark.parametrize(
    ("name", "refused", "allowed"),
    [
        ("clone", [(0x10000000 | 0x10000,), (17,), (0x20000 | 0x10000,), (0x10B00,)],
         [(0x3D0F00,)]),
        ("socketpair", [(2, 1), (1, 2), (1, 2 | 0x80000), (16, 3)], [(1, 1), (1, 1 | 0x80800)]),
        ("ioctl", [(0, 0x5412), (0, 0x541C), (0, 0x5412 | 1 << 40), (0, 0x8912), (0, 0x80108907)],
         [(0, 0x5401), (0, 0x541B)]),
        ("prlimit64", [(5, 7), (-1, 7)], [(0, 7)]),
        ("setpriority", [(1, 0), (0, 5), (2, 0)], [(0, 0)]),
        ("ioprio_set", [(1, 5), (2, 0)], [(1, 0)]),
        ("prctl", [(1, 0), (1, 9)], [(15, 0), (38, 1)]),
        ("kill", [(78, 9), (0, 9), (-1, 9)], [(77, 9)]),
        ("tgkill", [(78, 78, 9)], [(77, 80, 9)]),
        ("fcntl", [(0, 8, 5), (0, 15, 5)], [(0, 3), (0, 2, 1)]),
        ("fcntl", [(0, 1031, 1 << 20)], [(0, 1032)]),
        ("close_range", [(3, 9, 2), (3, 9, 6)], [(3, 9, 0), (3, 9, 4)]),
    ],
)  # fmt: skip
def test_arguments_decide(
    machine: str, name: str, refused: list[tuple[int, ...]], allowed: list[tuple[int, ...]]
) -> None:
    program, arch, column = filter_of(machine)
    number = NUMBERS[name][column]
    assert number is not None
    for arguments in refused:
        assert decide(program, arch, number, *arguments) == EPERM, arguments
    for arguments in allowed:
        assert decide(program, arch, number, *arguments) == ALLOW, arguments


def test_where_processes_are_allowed_forks_are(machine: str) -> None:
    program, arch, column = filter_of(machine, processes=4)
    clone = NUMBERS["clone"][column]
    assert clone is not None
    assert decide(program, arch, clone, 17) == ALLOW
    assert decide(program, arch, clone, 17 | 0x10000000) == EPERM


def test_another_processor_is_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp.os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    with pytest.raises(SandboxError, match="riscv64"):
        seccomp.program([NEVER], ALWAYS)
