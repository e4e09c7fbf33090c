"""Getting out, or getting rights: namespaces, mounts, set-user-id programs, the kernel itself."""

from __future__ import annotations

from .attack import Attack

ESCAPE, RIGHTS, KERNEL, TERMINAL = (
    "leave its namespaces",
    "gain rights",
    "reach into the kernel",
    "type into a terminal",
)
CAPGET = """
import ctypes
held = ctypes.create_string_buffer(24)
ctypes.CDLL(None).capget(bytes.fromhex("2205082000000000"), held)
print(held.raw.hex())
"""


def call(name: str, kind: str, expression: str, **more: object) -> Attack:
    """A system call that should not succeed."""
    return Attack(name, kind, f"def main(i):\n    {expression}\n    return {{'got': True}}", **more)  # type: ignore[arg-type]


CLOCK = "time.clock_settime(time.CLOCK_REALTIME, time.time() + 1000)"
ATTACKS = (
    call("a new user", ESCAPE, "syscall('unshare', 0x10000000)", harmless=True),
    call("new mounts", ESCAPE, "syscall('unshare', 0x20000)"),
    call(
        "a child in a new user",
        ESCAPE,
        "syscall('clone', 0x10000011, 0, 0, 0, 0) or os._exit(0)",
        harmless=True,
    ),
    call(
        "a child, by the newer call",
        ESCAPE,
        """
    arguments = struct.pack("8Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0)
    syscall('clone3', arguments, 64) or os._exit(0)""",
        harmless=True,
    ),
    call(
        "the namespace of process 1",
        ESCAPE,
        "syscall('setns', os.open('/proc/1/ns/mnt', os.O_RDONLY), 0)",
    ),
    call("a mount", ESCAPE, "syscall('mount', b'x', b'/mnt', b'tmpfs', 0, None)"),
    call("write where it may read", ESCAPE, "syscall('mount', b'', b'/usr', b'', 0x1021, None)"),
    call("an unmount", ESCAPE, "syscall('umount2', b'/proc', 2)"),
    call("the newer mounts", ESCAPE, "syscall('fsopen', b'tmpfs', 0)"),
    call("a copy of a mount", ESCAPE, "syscall('open_tree', -100, b'/', 1)"),
    call("another root", ESCAPE, "syscall('chroot', b'/usr')"),
    call("a pivot", ESCAPE, "syscall('pivot_root', b'/', b'/')"),
    Attack(
        "a set-user-id program",
        RIGHTS,
        ("sh", "-c", "exec su root -c 'cat /etc/shadow' < /dev/null"),
        proof=lambda outcome: outcome.stdout or None,
    ),
    Attack(
        "root's own rights after an exec",
        RIGHTS,
        ("python3", "-c", CAPGET),
        proof=lambda o: o.stdout if o.stdout.strip("0\n") or not o.stdout else None,
    ),
    Attack(
        "its rights by capset",
        RIGHTS,
        """
        def main(i):
            header = struct.pack("Ii", 0x20080522, 0)
            everything = struct.pack("6I", *[0xFFFFFFFF] * 6)
            if libc.capset(header, everything) == 0:
                return {"got": True}
            data = ctypes.create_string_buffer(24)
            libc.capget(header, data)
            return {"got": any(data.raw)}
    """,
    ),
    call("root's number", RIGHTS, "os.getuid() == 0 and os._exit(1); os.setuid(0)"),
    call("another user's number", RIGHTS, "os.setuid(1)"),
    call("another group", RIGHTS, "os.setgroups([0, 1, 42])"),
    Attack(
        "filters off",
        RIGHTS,
        """
        def main(i):
            libc.prctl(38, 0, 0, 0, 0)
            libc.prctl(22, 0, 0, 0, 0)
            return {"got": libc.prctl(39, 0, 0, 0, 0) != 1 or libc.prctl(21, 0, 0, 0, 0) != 2}
    """,
        ends=("done", "crashed"),
    ),
    call("the clock", KERNEL, CLOCK),
    call("the host's name", KERNEL, "socket.sethostname('owned')"),
    call("bpf", KERNEL, "syscall('bpf', 0, struct.pack('IIII', 2, 4, 8, 1) + bytes(112), 128)"),
    call("faults of user space", KERNEL, "syscall('userfaultfd', 0)"),
    call("a module", KERNEL, "syscall('init_module', b'x', 1, b'')"),
    call("another kernel", KERNEL, "syscall('kexec_load', 0, 0, None, 0)"),
    call("a restart", KERNEL, "syscall('reboot', 0xfee1dead, 672274793, 0, None)"),
    call("its log", KERNEL, "syscall('syslog', 3, ctypes.create_string_buffer(100), 100)"),
    call("a call that the filter does not know", KERNEL, "libc.syscall(463, 0) and sys.exit(1)"),
    Attack(
        "the calls of 32-bit programs",
        KERNEL,
        """
        import mmap
        def main(i):
            if platform.machine() != "x86_64":
                return {}
            page = mmap.mmap(-1, 4096, prot=7)
            page.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, getpid; int 0x80; ret
            place = ctypes.addressof(ctypes.c_char.from_buffer(page))
            return {"got": ctypes.CFUNCTYPE(ctypes.c_int)(place)()}
    """,
        ends=("crashed",),
        harmless=True,
    ),
    call(
        "the second table of calls",
        KERNEL,
        "libc.syscall(0x40000000 + 39) > 0 or sys.exit(1)",
        ends=("crashed", "no result"),
    ),
    Attack(
        "that of the harness",
        TERMINAL,
        """
        import fcntl
        def main(i):
            with open("/dev/tty", "r+b", 0) as terminal:
                fcntl.ioctl(terminal, 0x5412, b"x")
            return {"got": True}
    """,
    ),
    Attack(
        "any that it has",
        TERMINAL,
        """
        import fcntl
        def main(i):
            for fd in range(64):
                try:
                    fcntl.ioctl(fd, 0x5412, b"x")
                    return {"got": fd}
                except OSError:
                    continue
            return {}
    """,
    ),
)
