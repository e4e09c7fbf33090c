"""The inner walls, built by the forked child itself, from wide to narrow. There is no way back."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from mendel.sandbox import landlock, linux, seccomp
from mendel.sandbox.cage import BUBBLEWRAP, LANDLOCK, MACHINE, SCRATCH, SHM, UNSAFE, Cage
from mendel.sandbox.limits import Limits

SHM_BYTES = 8 << 20  # /dev/shm: enough for semaphores
STACK_BYTES = 8 << 20
FIRST_UID, N_UIDS = 0x70000000, 0x0FFFFFFE  # above all ranges that systems and containers hand out
LINUX = sys.platform == "linux"


@dataclass(frozen=True)
class Descriptors:
    """What the host passes for one trial; `status` is the supervisor's alone."""

    status: int
    data: int
    out: int
    err: int


def own_namespaces(cage: Cage) -> None:
    """Called by the supervisor: its next child is process 1 of a world of its own."""
    uid, gid = os.getuid(), os.getgid()
    flags = linux.NEWPID | linux.NEWIPC
    linux.unshare(flags | linux.NEWUSER if cage.user_namespace else flags)
    if cage.user_namespace:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def own_mounts(limits: Limits, uid: int) -> None:
    """Called by process 1: a /proc that shows this trial alone, a scratch folder with a limit."""
    linux.unshare(linux.NEWNS)
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    careful = linux.MS_NOSUID | linux.MS_NODEV
    linux.mount("proc", "/proc", "proc", careful | linux.MS_NOEXEC)
    owner = f"uid={uid},gid={uid}" if uid != os.getuid() else f"uid={uid},gid={os.getgid()}"
    shared = min(SHM_BYTES, limits.memory_bytes)
    linux.mount("tmpfs", SHM, "tmpfs", careful | linux.MS_NOEXEC,
                f"size={shared},nr_inodes=256,mode=700,{owner}")  # fmt: skip
    if limits.scratch_bytes:
        files = min(max(limits.scratch_bytes >> 12, 64), 1 << 16)
        linux.mount("tmpfs", SCRATCH, "tmpfs", careful,
                    f"size={limits.scratch_bytes},nr_inodes={files},mode=700,{owner}")  # fmt: skip


def own_user(cage: Cage) -> int:
    """The number of the user that this trial is."""
    if not cage.new_uid:
        return os.getuid()
    return FIRST_UID + int.from_bytes(os.urandom(4), "little") % N_UIDS


def streams(fds: Descriptors) -> None:
    """Nothing on stdin, the host's pipes on stdout and stderr."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (fds.out, 1), (fds.err, 2)):
        os.dup2(source, target)


def close_all_but(*kept: int) -> None:
    """Everything above stderr but these."""
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 16)


def rlimits(limits: Limits, *, grown: int, tasks: int | None) -> None:
    """Of each process; the supervisor watches the sums.

    grown    bytes of address space that were there before
    tasks    processes and threads of the user; None where the kernel would count others' too
    """
    cpu = max(int(limits.cpu_s + 0.999), 1)
    file = max(limits.scratch_bytes, SHM_BYTES)
    wanted = {
        "CORE": (1, 1),  # not 0: then a crash would still go to a program that collects dumps
        "CPU": (cpu, cpu + 1),
        "NOFILE": (limits.open_files, limits.open_files),
        "FSIZE": (file, file),
        "AS": (grown + limits.memory_bytes, grown + limits.memory_bytes),
        "STACK": (STACK_BYTES, STACK_BYTES),
        "MEMLOCK": (1 << 16, 1 << 16),
        "MSGQUEUE": (0, 0),
        "NICE": (0, 0),
        "RTPRIO": (0, 0),
        "SIGPENDING": (256, 256),
    }
    if tasks is not None:
        wanted["NPROC"] = (tasks, tasks)
    for name, pair in wanted.items():
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is None:  # not on this system
            continue
        hard = resource.getrlimit(number)[1]
        most = pair if hard == resource.RLIM_INFINITY else (min(pair[0], hard), min(pair[1], hard))
        resource.setrlimit(number, most)


def give_up_rights(cage: Cage, limits: Limits, uid: int) -> None:
    """Called by the trial, last before the code: capabilities, user, files, system calls."""
    if cage.kind == UNSAFE:
        return
    first_to_go()
    linux.lock_capabilities()
    if cage.new_uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    linux.drop_capabilities()
    linux.prctl(linux.NO_NEW_PRIVS, 1)
    linux.prctl(linux.DUMPABLE, 1)  # a change of user had cleared it: /proc/self is its own again
    linux.prctl(linux.PDEATHSIG, signal.SIGKILL)
    if cage.kind == LANDLOCK:
        readable = (*cage.seen, *MACHINE, cage.home, os.devnull)
        landlock.restrict(readable, (os.devnull,), cage.abi)
    scoped = cage.kind == BUBBLEWRAP or cage.abi >= landlock.SCOPED_ABI
    seccomp.restrict(processes=limits.processes, landlock=cage.kind == LANDLOCK, scoped=scoped)


def first_to_go() -> None:
    """Where the machine runs out of memory, the kernel takes the trial and not the harness."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def environment(cage: Cage, limits: Limits, extra: Mapping[str, str]) -> dict[str, str]:
    """All variables that a trial has."""
    threads = str(limits.threads)
    folder = {"TMPDIR": SCRATCH} if limits.scratch_bytes and cage.kind == BUBBLEWRAP else {}
    return {
        **warden_environment(cage.home),
        **{name: threads for name in THREADS},
        **folder,
        **extra,
    }


THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def warden_environment(home: str) -> dict[str, str]:
    """One thread: what forks must not have computed in parallel before."""
    programs = (os.path.join(sys.prefix, "bin"), "/usr/local/bin", "/usr/bin", "/bin")
    return {
        "PATH": ":".join(programs),
        "HOME": home,
        "LANG": "C.UTF-8",
        "USER": "trial",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MENDEL_TRIAL": "1",
        **{name: "1" for name in THREADS},
    }
