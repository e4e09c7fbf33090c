"""Reading what is secret, and changing what is not theirs."""

from __future__ import annotations

from dataclasses import replace

from .attack import MB, SHORT, Attack

READ, VARIABLE, LINKS = "read a secret file", "read a secret variable", "symlinks, hard links"
PROC, WRITE = "tricks with /proc", "change the host's files"
SCRATCH = replace(SHORT, scratch_bytes=4 * MB)


def read(name: str, expression: str, kind: str = READ, **more: object) -> Attack:
    return Attack(name, kind, f"def main(i):\n    return {{'got': {expression}}}", **more)  # type: ignore[arg-type]


def change(name: str, statement: str, kind: str = WRITE, **more: object) -> Attack:
    """Harm that the world sees by itself."""
    code = f"def main(i):\n    t = i['open'] + '/target.txt'\n    {statement}\n    return {{}}"
    return Attack(name, kind, code, **more)  # type: ignore[arg-type]


ATTACKS = (
    read("by its path", "open(i['secret']).read()", harmless=True),
    read("by ../.. from where it is", "open('../' * 20 + i['secret']).read()", harmless=True),
    Attack(
        "by cat",
        READ,
        ("cat", "{secret}"),
        harmless=True,
        proof=lambda outcome: outcome.stdout.strip() or None,
    ),
    read("by listing the folder", "'secret.txt' in os.listdir(i['folder'])", harmless=True),
    read("the system's passwords", "len(open('/etc/shadow').read())"),
    read(
        "the disk itself",
        """[open('/dev/' + d, 'rb').read(16).hex() for d in os.listdir('/dev')
        if d.startswith(('vd', 'sd', 'nvme', 'mem', 'kmsg'))]""",
    ),
    Attack(
        "by a file handle",
        READ,
        """
        def main(i):
            handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
            mount = ctypes.c_int()
            syscall("name_to_handle_at", -100, i["secret"].encode(), handle, ctypes.byref(mount), 0)
            folder = os.open("/", os.O_RDONLY)
            return {"got": os.read(syscall("open_by_handle_at", folder, handle, 0), 100).decode()}
    """,
    ),
    read("its environment", "os.environ.get(i['variable'])", VARIABLE),
    Attack(
        "the environment of every process",
        VARIABLE,
        """
        def main(i):
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    text = open(f"/proc/{pid}/environ", "rb").read()
                except OSError:
                    continue
                if i["variable"].encode() in text:
                    return {"got": pid}
            return {}
    """,
        harmless=True,
    ),
    read(
        "the environment of its parent, by ps",
        "i['variable'] in os.popen('ps auxeww').read()",
        VARIABLE,
        limits=replace(SHORT, processes=4),
    ),
    read(
        "a link in a folder it may read", "open(i['shown'] + '/link').read()", LINKS, harmless=True
    ),
    Attack(
        "a link of its own",
        LINKS,
        """
        def main(i):
            os.symlink(i["secret"], "mine")
            return {"got": open("mine").read()}
    """,
        SCRATCH,
    ),
    Attack(
        "a hard link of its own",
        LINKS,
        """
        def main(i):
            os.link(i["secret"], i["open"] + "/mine")
            return {"got": open(i["open"] + "/mine").read()}
    """,
        harmless=True,
    ),
    Attack(
        "a rename out of a folder it may read",
        LINKS,
        """
        def main(i):
            os.rename(i["shown"] + "/data.txt", i["open"] + "/data.txt")
            return {"got": True}
    """,
    ),
    read("/proc/self/root", "open('/proc/self/root' + i['secret']).read()", PROC, harmless=True),
    read("/proc/1/root", "open('/proc/1/root' + i['secret']).read()", PROC),
    read(
        "/proc/self/cwd/..",
        "open('/proc/self/cwd/' + '../' * 20 + i['secret']).read()",
        PROC,
        harmless=True,
    ),
    Attack(
        "every open file of every process",
        PROC,
        """
        def main(i):
            for pid in filter(str.isdigit, os.listdir("/proc")):
                if int(pid) == os.getpid():
                    continue
                try:
                    for fd in os.listdir(f"/proc/{pid}/fd"):
                        os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_NONBLOCK)
                        return {"got": f"{pid} {fd}"}
                except OSError:
                    continue
            return {}
    """,
    ),
    Attack(
        "the memory of its parent",
        PROC,
        """
        def main(i):
            with open(f"/proc/{os.getppid() or 1}/mem", "r+b", 0) as memory:
                return {"got": True}
    """,
        harmless=True,
    ),
    Attack(
        "the memory of the harness",
        PROC,
        """
        def main(i):
            with open(f"/proc/{i['host']}/mem", "r+b", 0) as memory:
                return {"got": True}
    """,
    ),
    change("a kernel setting", "open('/proc/sys/kernel/hostname', 'w').write('owned')", PROC),
    change(
        "the handler of core dumps",
        "open('/proc/sys/kernel/core_pattern', 'r+').write('')\n    return {'got': True}",
        PROC,
    ),
    change(
        "magic keys", "open('/proc/sysrq-trigger', 'w').close()\n    return {'got': True}", PROC
    ),
    change("write a file", "open(t, 'w').write('spoilt')", harmless=True),
    change("make a file", "open(i['open'] + '/new', 'w').write('x')", harmless=True),
    change("empty a file", "os.truncate(t, 0)", harmless=True),
    change("empty it on opening", "os.open(t, os.O_RDONLY | os.O_TRUNC)", harmless=True),
    change("delete a file", "os.unlink(t)", harmless=True),
    change("rename a file", "os.rename(t, t + '2')", harmless=True),
    change("its mode", "os.chmod(t, 0o4777)", harmless=True),
    change("its owner", "os.chown(t, 1, 1)"),
    change("its times", "os.utime(t, (1, 1))", harmless=True),
    change(
        "read its attributes",
        "return {'got': os.listxattr(t) is not None}",
        harmless=True,
    ),
    change("its attributes", "os.setxattr(t, 'user.owned', b'1')"),
    *(
        change(f"{name} what it may read", statement, harmless=True)
        for name, statement in (
            ("write", "t = i['shown'] + '/data.txt'; open(t, 'w').write('spoilt')"),
            ("delete", "os.unlink(i['shown'] + '/data.txt')"),
            ("open to all", "os.chmod(i['shown'] + '/data.txt', 0o4777)"),
            ("date back", "os.utime(i['shown'] + '/data.txt', (1, 1))"),
            ("write beside", "open(i['shown'] + '/new', 'w').close()"),
        )
    ),
    change("a device node", "os.mknod(i['open'] + '/disk', 0o60666, os.makedev(254, 0))"),
    change(
        "a device node in its scratch",
        "os.mknod('disk', 0o60666, os.makedev(254, 0)); "
        "os.open('disk', os.O_RDONLY)\n    return {'got': True}",
        limits=SCRATCH,
    ),
    change("a pipe", "os.mkfifo(i['open'] + '/pipe')", harmless=True),
    change("the list of users", "open('/etc/passwd', 'a').write('owned::0:0::/:/bin/sh')"),
    change(
        "the package of mendel",
        "open(i['mendel'] + '/types.py', 'a').close(); "
        "open(i['mendel'] + '/owned.py', 'w').close()\n    return {'got': True}",
    ),
    change(
        "the package of torch",
        "open(i['torch'] + '/__init__.py', 'a').close()\n    return {'got': True}",
    ),
    change("the interpreter", "open(sys.executable, 'r+b').close()\n    return {'got': True}"),
    Attack("by a shell", WRITE, ("sh", "-c", "echo spoilt > {open}/target.txt"), harmless=True),
)
