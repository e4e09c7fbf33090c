"""Reaching other processes, and outliving the trial."""

from __future__ import annotations

import os
from dataclasses import replace

from .attack import SHORT, Attack

KILL, TRACE, CHANGE, DAEMON = (
    "kill others",
    "trace others",
    "change others' limits",
    "leave a daemon behind",
)
FEW = replace(SHORT, processes=4)
MARK = f"owned{os.getpid()}"  # what is left of a daemon, by name; other tests have theirs


def act(name: str, kind: str, statement: str, **more: object) -> Attack:
    return Attack(name, kind, f"def main(i):\n    {statement}\n    return {{}}", **more)  # type: ignore[arg-type]


def victims(name: str, kind: str, call: str, **more: object) -> Attack:
    """A call on every process there may be, that changes nothing where it succeeds."""
    code = f"""
def main(i):
    for pid in (i["victim"], i["host"], os.getppid(), *range(2, 400)):
        if pid in (0, 1, os.getpid()):
            continue
        try:
            {call}
        except OSError:
            continue
        return {{"got": pid}}
    return {{}}
"""
    return Attack(name, kind, code, **more)  # type: ignore[arg-type]


ATTACKS = (
    act("a process of the host", KILL, "os.kill(i['victim'], signal.SIGKILL)", harmless=True),
    act("stop a process of the host", KILL, "os.kill(i['victim'], signal.SIGSTOP)", harmless=True),
    victims("whoever can be signalled", KILL, "os.kill(pid, 0)"),
    act("all at once", KILL, "os.kill(-1, signal.SIGSTOP)"),
    act("its parent", KILL, "os.kill(os.getppid() or 1, signal.SIGKILL); time.sleep(0.2)"),
    act("the group of its parent", KILL, "os.killpg(os.getpgid(os.getppid()), signal.SIGKILL)"),
    Attack(
        "by a descriptor of the process",
        KILL,
        """
        def main(i):
            signal.pidfd_send_signal(os.pidfd_open(i["victim"]), signal.SIGKILL)
            return {}
    """,
        harmless=True,
    ),
    Attack(
        "by the owner of a descriptor",
        KILL,
        """
        import fcntl
        def main(i):
            left, right = os.pipe()
            fcntl.fcntl(left, 10, signal.SIGKILL)
            fcntl.fcntl(left, fcntl.F_SETOWN, i["victim"])
            fcntl.fcntl(left, fcntl.F_SETFL, os.O_ASYNC)
            os.write(right, b"x")
            time.sleep(0.1)
            return {}
    """,
        harmless=True,
    ),
    act(
        "a process of the host, by a shell",
        KILL,
        "os.system(f\"kill -9 {i['victim']}\")",
        limits=FEW,
    ),
    act(
        "attach",
        TRACE,
        "return {'got': syscall('ptrace', 0x4206, i['victim'], 0, 0) == 0}",
        harmless=True,
    ),
    victims(
        "read memory",
        TRACE,
        """
            place = ctypes.cast(libc.getpid, ctypes.c_void_p).value  # forks have it there too
            held = ctypes.create_string_buffer(8)
            here, there = struct.pack("QQ", ctypes.addressof(held), 8), struct.pack("QQ", place, 8)
            syscall("process_vm_readv", pid, here, 1, there, 1, 0)""".strip(),
        harmless=True,
    ),
    act(
        "take a descriptor",
        TRACE,
        "return {'got': syscall('pidfd_getfd', os.pidfd_open(i['victim']), 0, 0)}",
        harmless=True,
    ),
    Attack(
        "watch by perf",
        TRACE,
        """
        def main(i):
            attributes = struct.pack("IIQ", 1, 128, 0) + bytes(112)
            return {"got": syscall("perf_event_open", attributes, i["victim"], -1, -1, 0)}
    """,
    ),
    Attack(
        "a lease on a file that others write",
        CHANGE,
        """
        import fcntl
        def main(i):
            held = os.open(sys.executable, os.O_RDONLY)
            return {"got": fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_RDLCK) == 0}
    """,
    ),
    act(
        "files",
        CHANGE,
        "import resource; resource.prlimit(i['victim'], 7, (16, 16))",
        harmless=True,
    ),
    act("priority", CHANGE, "os.setpriority(os.PRIO_PROCESS, i['victim'], 19)", harmless=True),
    act("cores", CHANGE, "os.sched_setaffinity(i['victim'], {0})", harmless=True),
    victims("limits of anybody", CHANGE, "import resource; resource.prlimit(pid, 7)"),
    act(
        "its own, up",
        CHANGE,
        """import resource
    for name in ("CPU", "AS", "NOFILE", "FSIZE", "NPROC"):
        number = getattr(resource, "RLIMIT_" + name)
        try: resource.setrlimit(number, (resource.getrlimit(number)[1] + 1,) * 2)
        except (OSError, ValueError): continue
        return {"got": name}""",
    ),
    Attack(
        "forked twice, in a session of its own",
        DAEMON,
        f"""
        def main(i):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    libc.prctl(15, b"{MARK}", 0, 0, 0)
                    for number in range(1, 65):
                        try: signal.signal(number, signal.SIG_IGN)
                        except (OSError, ValueError): pass
                    for fd in range(3): os.close(fd)
                    time.sleep(60)
                os._exit(0)
            time.sleep(0.1)
            return {{}}
    """,
        FEW,
    ),
    Attack(
        "a program, by a shell",
        DAEMON,
        ("sh", "-c", f"(exec -a {MARK} setsid sleep 61 >/dev/null 2>&1 &) ; sleep 0.1"),
        FEW,
    ),
    Attack(
        "after it has asked for no signal at its parent's end",
        DAEMON,
        f"""
        def main(i):
            libc.prctl(1, 0, 0, 0, 0)
            libc.prctl(15, b"{MARK}", 0, 0, 0)
            os.kill(os.getppid() or 1, signal.SIGKILL)
            time.sleep(60)
    """,
        replace(FEW, wall_s=0.6),
    ),
    Attack(
        "threads that go on",
        DAEMON,
        f"""
        import threading
        def main(i):
            libc.prctl(15, b"{MARK}", 0, 0, 0)
            threading.Thread(target=time.sleep, args=(60,)).start()
            return {{}}
    """,
    ),
    Attack(
        "a session that is closed",
        DAEMON,
        f"""
        import threading
        libc.prctl(15, b"{MARK}", 0, 0, 0)
        def serve(request):
            threading.Thread(target=time.sleep, args=(60,)).start()
            return {{}}
    """,
        session=1,
    ),
    Attack(
        "a core dump",
        DAEMON,
        """
        import resource
        def main(i):
            try: resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
            except (OSError, ValueError): pass
            os.chdir(i["open"] if os.path.isdir(i["open"]) else ".")
            os.abort()
    """,
        ends=("crashed",),
    ),
)
