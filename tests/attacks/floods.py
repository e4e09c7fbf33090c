"""Using up the machine: processes, memory, disk, output, time."""

from __future__ import annotations

from dataclasses import replace

from mendel.sandbox import Outcome

from .attack import BRIEF, MB, SHORT, Attack

BOMB, MEMORY, DISK, OUTPUT = (
    "fork and thread bombs",
    "flood memory",
    "flood the disk",
    "flood output",
)
TIME, RECURSION, KERNEL = "never end", "deep recursion", "use up the kernel's tables"
FEW = replace(SHORT, processes=4)
SCRATCH = replace(SHORT, scratch_bytes=4 * MB)
STOPPED = ("memory", "exception", "crashed", "processes", "CPU time", "wall time")
FULL = ("disk", "exception")


def small(outcome: Outcome) -> str | None:
    """The tree never held much more than it might."""
    most = 256 * MB * 1.5
    held = outcome.usage.peak_bytes
    return f"held {held} bytes" if held > most else None


def flood(name: str, kind: str, code: str, ends: tuple[str, ...], **more: object) -> Attack:
    return Attack(name, kind, f"def main(i):\n{code}", ends=ends, **more)  # type: ignore[arg-type]


MANY = """
        def main(i):
            for _ in range(3):
                if fork_or_stop() == 0:
                    break
            held = []
            for _ in range(40):
                held.append(bytearray(b"x") * (8 << 20))
                time.sleep(0.01)
            time.sleep(5)
            return {"got": "3 x 320 MB"}
"""
FILES = """
        def main(i):
            for n in range(200_000):
                with open(str(n), "w") as file:
                    file.write(%s)
            return {"got": n}
"""
ATTACKS = (
    Attack(
        "forks",
        BOMB,
        """
        def main(i):
            n = 0
            while n < 3000:
                if os.fork() == 0:
                    time.sleep(60)
                n += 1
            return {"got": n}
    """,
        ends=STOPPED,
    ),
    Attack(
        "forks that fork, where some are allowed",
        BOMB,
        """
        def main(i):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            for n in range(3000):
                fork_or_stop()
            time.sleep(5)
            return {"got": n}
    """,
        FEW,
        STOPPED,
    ),
    Attack(
        "threads",
        BOMB,
        """
        import threading
        def main(i):
            for n in range(5000):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            return {"got": n}
    """,
        ends=STOPPED,
    ),
    Attack("a shell's", BOMB, ("bash", "-c", "b() { b | b & }; b; sleep 9"), FEW, STOPPED),
    flood(
        "one block",
        MEMORY,
        "    return {'got': len(bytearray(b'x') * (1 << 30))}",
        STOPPED,
        proof=small,
    ),
    flood(
        "page by page",
        MEMORY,
        """
    held = []
    while True:
        held.append(bytearray(b"x") * (1 << 20))""",
        STOPPED,
        proof=small,
    ),
    flood(
        "a tensor",
        MEMORY,
        """
    import torch
    return {'got': float(torch.ones(1 << 29).sum())}""",
        STOPPED,
        proof=small,
    ),
    flood(
        "shared, then let go of",
        MEMORY,
        """
    import mmap
    held = []
    for n in range(64):
        block = mmap.mmap(-1, 32 << 20)
        block.write(b"x" * (32 << 20))
        block.madvise(mmap.MADV_DONTNEED)
        held.append(block)
    return {'got': n}""",
        STOPPED,
    ),
    flood(
        "pages that a pipe holds",
        MEMORY,
        """
    left, right = os.pipe()
    held = ctypes.create_string_buffer(4096)
    piece = struct.pack("QQ", ctypes.addressof(held), 4096)
    return {'got': syscall('vmsplice', right, piece, 1, 0)}""",
        ("exception",),
        harmless=True,
    ),
    Attack(
        "by threads whose first has gone",
        MEMORY,
        """
        import threading
        def fill():
            held = []
            for _ in range(64):
                held.append(bytearray(b"x") * (4 << 20))
                time.sleep(0.01)
            time.sleep(5)
        def main(i):
            for _ in range(3):
                if fork_or_stop() == 0:
                    break
            threading.Thread(target=fill).start()
            libc.syscall(ctypes.c_long(60 if platform.machine() == "x86_64" else 93), 0)
    """,
        replace(FEW, memory_bytes=128 * MB),
        STOPPED,
    ),
    Attack(
        "CPU time of children that nobody waits for",
        TIME,
        """
        def main(i):
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            for _ in range(30):
                if fork_or_stop() == 0:
                    until = time.process_time() + 0.2
                    while time.process_time() < until: pass
                    os._exit(0)
                try: os.wait()
                except ChildProcessError: pass
            return {"got": "6 s"}
    """,
        replace(FEW, cpu_s=1, wall_s=9),
        ("CPU time",),
    ),
    Attack("by many processes", MEMORY, MANY, FEW, STOPPED, proof=small),
    flood(
        "a file in memory",
        MEMORY,
        """
    fd = os.memfd_create("x")
    for n in range(1024):
        os.write(fd, b"x" * (1 << 20))
    return {'got': n}""",
        ("disk", *STOPPED),
    ),
    flood(
        "SysV shared memory",
        MEMORY,
        """
    key = syscall("shmget", 0, 64 << 20, 0o1666)
    return {'got': key}""",
        STOPPED,
    ),
    flood(
        "/dev/shm",
        MEMORY,
        """
    for n in range(1000):
        with open(f"/dev/shm/owned{n}", "wb") as file:
            file.write(b"x" * (1 << 20))
    return {'got': n}""",
        FULL,
    ),
    flood(
        "one big file",
        DISK,
        """
    with open("big", "wb") as file:
        for n in range(64):
            file.write(b"x" * (1 << 20))
            file.flush()
    return {'got': n}""",
        FULL,
        limits=SCRATCH,
    ),
    Attack("many files", DISK, FILES % "'x' * 4096", SCRATCH, FULL),
    Attack("many empty files", DISK, FILES % "''", SCRATCH, FULL),
    flood(
        "a hole",
        DISK,
        """
    with open("hole", "wb") as file:
        file.truncate(1 << 40)
    return {'got': True}""",
        FULL,
        limits=SCRATCH,
    ),
    flood(
        "where it has no scratch",
        DISK,
        """
    for place in (".", os.environ["HOME"], "/tmp", "/dev", "/var/tmp", "/run", "/"):
        try:
            with open(place + "/owned.txt", "w") as file:
                return {'got': place}
        except OSError:
            continue
    return {}""",
        (),
    ),
    Attack(
        "by a command",
        DISK,
        ("dd", "if=/dev/zero", "of=/scratch/big", "bs=1M", "count=64"),
        SCRATCH,
        ("done", "disk"),
        proof=lambda o: "64 MB were written" if o.exit_code == 0 else None,
    ),
    flood(
        "stdout",
        OUTPUT,
        "    while True: print('x' * 1000)",
        ("output",),
        proof=lambda o: "too much kept" if len(o.stdout) > 64 << 10 else None,
    ),
    flood(
        "stderr, by hand",
        OUTPUT,
        "    while True: os.write(2, b'x' * 100_000)",
        ("output",),
        proof=lambda o: "too much kept" if len(o.stderr) > 64 << 10 else None,
    ),
    Attack("a command's", OUTPUT, ("yes",), ends=("output",)),
    flood(
        "a result of 100 MB",
        OUTPUT,
        "    return {'got': 'x' * (100 << 20)}",
        ("malformed result", "memory"),
    ),
    flood(
        "a tensor of 100 MB",
        OUTPUT,
        """
    import numpy
    return {'got': numpy.zeros(100 << 20, 'uint8')}""",
        ("malformed result", "memory", "no result"),
    ),
    flood("a loop", TIME, "    while True: pass", ("wall time",), limits=BRIEF),
    flood(
        "a loop that ignores all signals",
        TIME,
        """
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while True: pass""",
        ("wall time",),
        limits=BRIEF,
    ),
    flood(
        "a loop inside C",
        TIME,
        "    return {'got': sum(range(1 << 60))}",
        ("wall time",),
        limits=BRIEF,
    ),
    flood("sleep past the deadline", TIME, "    time.sleep(60)", ("wall time",), limits=BRIEF),
    flood(
        "stop itself",
        TIME,
        "    os.kill(os.getpid(), signal.SIGSTOP)",
        ("wall time",),
        limits=BRIEF,
    ),
    flood(
        "all of the processor",
        TIME,
        """
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while True: pass""",
        ("CPU time",),
        limits=replace(SHORT, cpu_s=0.4, wall_s=20),
    ),
    Attack(
        "the processor, by several",
        TIME,
        """
        def main(i):
            for _ in range(3):
                if fork_or_stop() == 0:
                    break
            while True:
                pass
    """,
        replace(FEW, cpu_s=0.6, wall_s=20),
        ("CPU time",),
    ),
    Attack(
        "a session that does not answer",
        TIME,
        """
        def serve(request):
            time.sleep(60)
    """,
        BRIEF,
        ("wall time",),
        session=1,
    ),
    Attack(
        "a session that does not load", TIME, "time.sleep(60)", BRIEF, ("wall time",), session=1
    ),
    flood(
        "in Python",
        RECURSION,
        """
    def down(n): return down(n + 1)
    return {'got': down(0)}""",
        ("exception",),
    ),
    flood(
        "in Python, without its guard",
        RECURSION,
        """
    sys.setrecursionlimit(1 << 30)
    def down(n): return [down(n + 1)]
    return {'got': down(0)}""",
        STOPPED,
    ),
    flood(
        "in C",
        RECURSION,
        """
    nested = ()
    for _ in range(1_000_000): nested = (nested,)
    return {'got': hash(nested)}""",
        ("crashed", "memory", "exception"),
    ),
    flood("a wild pointer", RECURSION, "    ctypes.string_at(1)", ("crashed",)),
    flood(
        "open files",
        KERNEL,
        """
    held = []
    while True: held.append(os.open("/dev/null", os.O_RDONLY))""",
        ("exception",),
    ),
    flood(
        "the room that a user has for pipes",
        KERNEL,
        """
    import fcntl
    return {'got': fcntl.fcntl(os.pipe()[1], 1031, 1 << 20)}""",
        ("exception",),
        harmless=True,
    ),
    flood(
        "the memory of a user's asynchronous reads",
        KERNEL,
        "    return {'got': syscall('io_setup', 8, ctypes.create_string_buffer(8)) == 0}",
        ("exception",),
        harmless=True,
    ),
    flood(
        "the watches that a user has",
        KERNEL,
        "    return {'got': syscall('inotify_init1', 0)}",
        ("exception",),
        harmless=True,
    ),
    flood(
        "open files, by threads that have their own",
        KERNEL,
        "    return {'got': syscall('close_range', 4000, 4001, 2) == 0}",
        ("exception",),
        harmless=True,
    ),
    flood(
        "message queues",
        KERNEL,
        "    return {'got': syscall('mq_open', b'x', 66, 384, None)}",
        ("exception",),
    ),
    flood(
        "keys",
        KERNEL,
        """
    return {'got': syscall('add_key', b'user', b'owned', b'x', 1, -3)}""",
        ("exception",),
    ),
    flood(
        "sockets in flight",
        KERNEL,
        """
    left, right = socket.socketpair()
    n = 0
    left.setblocking(False)
    while n < 100_000:
        pair = socket.socketpair()
        socket.send_fds(left, [b"x"], [pair[0].fileno(), pair[1].fileno()])
        for end in pair: end.close()
        n += 1
    return {'got': n}""",
        ("exception",),
    ),
)
